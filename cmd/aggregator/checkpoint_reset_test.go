package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// reset resets and returns what was done to the one source.
func (s *pair) reset() resetLine {
	s.t.Helper()
	r := s.program("checkpoint", "reset", "--yes", "-o", "json")
	r.requireDone(s.t)
	var document struct{ Sources []resetLine }
	require.NoError(s.t, json.Unmarshal([]byte(r.stdout), &document))
	require.Len(s.t, document.Sources, 1)
	return document.Sources[0]
}

func (s *pair) requireBalanced(want string) {
	s.t.Helper()
	r := s.program("verify")
	r.requireDone(s.t)
	require.Contains(s.t, r.stdout, want)
}

// add pushes an entry with an id of its own.
func (s *pair) add(id, event string) {
	s.t.Helper()
	require.NoError(s.t, s.redis.XAdd(
		s.t.Context(), &redis.XAddArgs{Stream: "book-like-events", ID: id, Values: []any{"event", event}}).Err())
}

// adminURL is that of the Redis for one who may do anything.
func (s *pair) adminURL() string { return "redis://" + s.redis.Options().Addr }

func (s *pair) number(sql string) (n int64) {
	s.t.Helper()
	require.NoError(s.t, s.db.QueryRow(s.t.Context(), sql).Scan(&n))
	return n
}

const scoreOfBori = `SELECT coalesce(sum(score), 0)::bigint FROM genre_score WHERE child_profile_id = 1`

// The stream is deleted and made anew with ids of before, and somebody says so before the
// service starts: all entries are counted, and dead letters of before are there as ever.
func TestResetOfAStreamMadeAnew(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	s.exec(`INSERT INTO genre (id, name) VALUES (1, 'g')`)
	s.exec(`UPDATE book SET genre_id = 1`)
	s.push("1:1:LIKE", "2:1:LIKE", "junk", "1:1:LIKE")
	require.Zero(t, s.program("drain").code)
	require.EqualValues(t, 4, s.number(scoreOfBori))
	letters := s.number(`SELECT count(*) FROM aggregator.dead_letter WHERE source = 'book-like-events'`)
	require.EqualValues(t, 2, letters)

	require.NoError(t, s.redis.Del(t.Context(), "book-like-events").Err())
	for i, event := range []string{"1:1:LIKE", "3:1:LIKE", "1:1:DISLIKE", "1:1:LIKE"} {
		s.add(fmt.Sprintf("%d-0", i+1), event)
	}

	before := s.program("checkpoint", "show").stdout
	s.program("checkpoint", "reset").requireFailure(t, exitUsage, "this would reset book-like-events: "+
		"all 4 entries in Redis would be counted from the beginning, 4 of them a second time if they were counted before; "+
		"pass --yes to confirm")
	dry := s.program("checkpoint", "reset", "--dry-run")
	dry.requireDone(t)
	require.Equal(t, "would reset book-like-events: all 4 entries in Redis would be counted from the beginning, "+
		"4 of them a second time if they were counted before\n", dry.stdout)
	s.program("checkpoint", "reset", "--dry-run", "--yes").requireFailure(
		t, exitUsage, "want --yes or --dry-run, not both")
	require.Equal(t, before, s.program("checkpoint", "show").stdout)
	require.EqualValues(t, 4, s.number(scoreOfBori))

	done := s.reset()
	require.Equal(t, resetLine{
		Source: "book-like-events", Was: done.Was, Epoch: 1, Held: 4, Again: 4, Archived: 2, ArchivedAs: "book-like-events@1",
	}, done)
	require.Regexp(t, `(?m)^book-like-events +- +- `, s.program("checkpoint", "show").stdout)
	s.requireBalanced("0 applied + 0 dead letters = 0 processed + 0 in flight; 4 added = 0 read + 4 left")
	require.Zero(t, s.program("drain").code)
	require.EqualValues(t, 6, s.number(scoreOfBori))
	s.requireBalanced("3 applied + 1 dead letter = 4 processed + 0 in flight; 4 added = 4 read + 0 left")

	// What is pushed from now on is counted, too.
	s.push("1:1:LIKE")
	require.Zero(t, s.program("drain").code)
	require.EqualValues(t, 8, s.number(scoreOfBori))

	// Letters of both: each counts once.
	s.exec(`INSERT INTO child_profile (id, name) VALUES (2, 'late'), (3, 'late')`)
	r := s.program("dead", "retry", "--reason", "unknown_profile", "-o", "json")
	r.requireDone(t)
	require.JSONEq(t, `{"tried": 2, "applied": 2, "settled_before": 0, "still_dead": 0, "why": {}}`, untimed(r.stdout))
	require.JSONEq(t, `{"tried": 0, "applied": 0, "settled_before": 0, "still_dead": 0, "why": {}}`,
		untimed(s.program("dead", "retry", "--reason", "unknown_profile", "-o", "json").stdout))
	require.EqualValues(t, 4, s.number(`SELECT sum(score)::bigint FROM genre_score WHERE child_profile_id IN (2, 3)`))
	s.requireBalanced("4 applied + 1 dead letter = 5 processed + 0 in flight")
	require.Contains(t, s.program("dead", "list").stdout, "book-like-events@1  ")
	require.Contains(t, s.program("runs", "--kind", "reset").stdout, "done")
}

// Nobody says so: what was there is kept as a source of its own, which counts if it is drained.
func TestStreamMadeAnew(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	s.exec(`INSERT INTO genre (id, name) VALUES (1, 'g')`)
	s.exec(`UPDATE book SET genre_id = 1`)
	s.push("1:1:LIKE")
	require.Zero(t, s.program("drain").code)
	require.NoError(t, s.redis.Del(t.Context(), "book-like-events").Err())
	s.add("1-0", "1:1:LIKE")
	said := s.program("drain", "--log-level", "error")
	require.Equal(t, exitFailed, said.code)
	require.Contains(t, said.stderr, "the stream was recreated")
	s.accept()
	kept := regexp.MustCompile(`\{book-like-events\}:behind:\d+-\d+`).FindString(said.stderr)
	s.push("1:1:LIKE")
	require.Contains(t, s.program("drain", "-o", "json").stdout, `"applied": 1,`)
	for _, applied := range []string{`"applied": 1,`, `"applied": 0,`} {
		require.Contains(t, s.program("drain", "--source-kind", "stream", "--source-key", kept, "-o", "json").stdout, applied)
	}
	require.EqualValues(t, 6, s.number(scoreOfBori))
}

// Scores were put back by hand, and what is retained in Redis is read again. A dead letter
// whose entry is still there must not be applied from its row as well.
func TestResetOfWhatIsRetained(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	s.exec(`INSERT INTO genre (id, name) VALUES (1, 'g')`)
	s.exec(`UPDATE book SET genre_id = 1`)
	s.env = append(s.env, "AGGREGATOR_TRIM_RETAIN=1h")
	ids := s.push("1:1:LIKE", "2:1:LIKE", "junk", "4:1:LIKE", "1:1:LIKE")
	require.Zero(t, s.program("drain").code)
	require.NoError(t, s.redis.XDel(t.Context(), "book-like-events", ids[3]).Err()) // only its letter is left
	s.exec(`UPDATE genre_score SET score = 0`)
	s.exec(`INSERT INTO child_profile (id, name) VALUES (2, 'late'), (4, 'late')`)
	s.program("checkpoint", "reset").requireFailure(
		t, exitUsage, "all 4 entries in Redis would be counted from the beginning, 4 of them a second time")
	text := s.program("checkpoint", "reset", "--yes")
	text.requireDone(t)
	require.Regexp(t, `(?s)^reset book-like-events, which was processed up to `+ids[4]+`
  in Redis, to be counted +4
  of these a second time +4
  dead letters archived +3, as book-like-events@1
  of these dropped +2, because their entries are read again
$`, text.stdout)
	require.Zero(t, s.program("drain").code)
	require.EqualValues(t, 4, s.number(scoreOfBori))
	s.program("dead", "retry", "--all-unsettled") // junk stays
	require.EqualValues(t, 2, s.number(`SELECT sum(score)::bigint FROM genre_score WHERE child_profile_id = 2`))
	require.EqualValues(t, 2, s.number(`SELECT sum(score)::bigint FROM genre_score WHERE child_profile_id = 4`))
	s.requireBalanced("3 applied + 1 dead letter = 4 processed + 0 in flight")

	// Again and again: the letters of each epoch have a name of their own.
	for _, epoch := range []int64{2, 4, 6} {
		s.exec(`UPDATE genre_score SET score = 0`)
		require.Equal(t, fmt.Sprintf("book-like-events@%d", epoch), s.reset().ArchivedAs)
		require.Equal(t, epoch+1, s.reset().Epoch, "twice in a row")
		require.Zero(t, s.program("drain").code)
		require.EqualValues(t, 4, s.number(scoreOfBori))
		s.requireBalanced("3 applied + 1 dead letter = 4 processed")
	}
}

// Without a checkpoint there is nothing to forget but the bookmark of another program.
func TestResetOfASourceNeverRead(t *testing.T) {
	s := newPair(t)
	want := resetLine{Source: "book-like-events", Was: "0-0", Epoch: 1, ArchivedAs: "book-like-events@1"}
	require.Equal(t, want, s.reset())
	s.push("1:1:LIKE", "1:1:LIKE")
	require.NoError(t, s.redis.XGroupCreate(t.Context(), "book-like-events", "aggregator", "$").Err())
	require.EqualValues(t, 2, s.reset().Held)
	require.Contains(t, s.program("drain", "-o", "json").stdout, `"applied": 2`)
	s.requireBalanced("2 applied")
}

// All partitions at once, of lists, with what still is in them.
func TestResetOfPartitions(t *testing.T) {
	s := newPair(t)
	s.env = append(s.env, "AGGREGATOR_SOURCE_KIND=list", "AGGREGATOR_SOURCE_PARTITIONS=5", "AGGREGATOR_TRIM_RETAIN=1h")
	s.env[1] = "AGGREGATOR_REDIS_URL=" + testenv.RedisAs(t, s.adminURL(), "aggregator_list", "")
	push := func() {
		for p := range 5 {
			require.NoError(t, s.redis.LPush(t.Context(), fmt.Sprintf("BookLikeEventList:{%d}", p), "1:1:LIKE", "junk").Err())
		}
	}
	push()
	require.Zero(t, s.program("drain").code)
	push()
	s.program("checkpoint", "reset").requireFailure(
		t, exitUsage, "this would reset BookLikeEventList:{0}:stream, ..., BookLikeEventList:{4}:stream: "+
			"all 20 entries in Redis would be counted from the beginning, 10 of them a second time")
	s.program("checkpoint", "reset", "--yes").requireDone(t)
	require.Contains(t, s.program("drain", "-o", "json").stdout, `"applied": 10`)
	s.requireBalanced("2 applied + 2 dead letters = 4 processed")
	require.EqualValues(t, 10, s.number(`SELECT sum(applied)::bigint FROM aggregator.mark`))
}

// A service holds the lease, and a drain is in the list of runs.
func TestResetIsRefused(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	s.push("1:1:LIKE")
	require.Zero(t, s.program("drain").code)
	before := s.program("checkpoint", "show").stdout

	s.exec(`INSERT INTO aggregator.lease VALUES ('book-like-events', 'elsewhere/7/abcd', now(), now() + interval ` +
		`'1 hour')`)
	s.program("checkpoint", "reset", "--yes").requireFailure(
		t, exitEventsLeft, "book-like-events is held by elsewhere/7/abcd since ")
	s.exec(`DELETE FROM aggregator.lease`)

	s.exec(
		`INSERT INTO aggregator.run (key, kind, host, version, started_at, seen_at, read, applied, dead, profiles, chunks)
		VALUES ('k', 'drain', 'elsewhere', 'v', now(), now(), 0, 0, 0, 0, 0)`)
	s.program("checkpoint", "reset", "--yes").requireFailure(t, exitEventsLeft, "a drain is running on elsewhere since ")
	s.exec(`UPDATE aggregator.run SET outcome = 'done', finished_at = now() WHERE key = 'k'`)

	// Somebody's transaction on the marks.
	tx, err := s.db.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `UPDATE aggregator.mark SET applied = applied`)
	require.NoError(t, err)
	s.program("checkpoint", "reset", "--yes").requireFailure(
		t, exitEventsLeft, "another session is at work: resetting: ERROR: canceling statement due to lock timeout")
	require.NoError(t, tx.Rollback(t.Context()))

	require.Equal(t, before, s.program("checkpoint", "show").stdout)
	s.program("checkpoint", "reset", "now").requireFailure(t, exitUsage, `unexpected argument "now"`)
	require.EqualValues(t, 1, s.reset().Epoch)
}

// A real service is in its way until it is stopped.
func TestResetBesideAService(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	s.push("1:1:LIKE")
	p := s.start()
	require.Eventually(t, func() bool { return s.number(`SELECT count(*) FROM aggregator.mark`) == 1 }, 3*time.Minute,
		10*time.Millisecond)
	s.program("checkpoint", "reset", "--yes").requireFailure(t, exitEventsLeft, "; stop the service first")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.cmd.Wait())
	require.EqualValues(t, 1, s.reset().Epoch)
}

// It takes the role of the daemon on both servers, and no more. Whoever has less is told what
// is missing, and nothing is changed.
func TestResetNeedsTheRightsOfTheDaemon(t *testing.T) {
	s := newPair(t)
	s.push("1:1:LIKE")
	require.Zero(t, s.program("drain").code)
	daemon, daemonsRedis := s.env[0], s.env[1]
	s.env[0] = strings.Replace(daemon, "aggregator_daemon", "aggregator_reader", 1)
	s.program("checkpoint", "reset", "--yes").requireFailure(
		t, exitFailed, "permission denied for table lease (SQLSTATE 42501)")
	s.env[0], s.env[1] = daemon, "AGGREGATOR_REDIS_URL="+testenv.RedisAs(t, s.adminURL(), "aggregator_reader", "")
	r := s.program("checkpoint", "reset", "--yes")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "fencing stream book-like-events: NOPERM")
	s.env[1] = daemonsRedis
	require.NotContains(t, s.program("checkpoint", "show").stdout, " 0-0 ")
	require.EqualValues(t, 1, s.reset().Epoch)
}
