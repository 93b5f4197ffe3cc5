package main

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/internal/audit"
	"aggregator/internal/testenv"
)

// pair is a Redis and a PostgreSQL with a child and a book.
type pair struct {
	t     *testing.T
	env   []string
	db    *pgx.Conn
	redis *redis.Client
}

func newPair(t *testing.T) *pair {
	t.Helper()
	t.Parallel()
	database, redisURL := testenv.Database(t), testenv.Redis(t)
	db, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close(t.Context()) })
	options, err := redis.ParseURL(redisURL)
	require.NoError(t, err)
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	s := &pair{t, []string{
		"AGGREGATOR_POSTGRES_URL=" + testenv.As(t, database, "aggregator_daemon"),
		"AGGREGATOR_REDIS_URL=" + testenv.RedisAs(t, redisURL, "aggregator_stream", "book-like-events"),
		"AGGREGATOR_LOG_FORMAT=text",
	}, db, client}
	s.exec(`INSERT INTO child_profile (id, name) VALUES (1, 'Bori')`)
	s.exec(`INSERT INTO book (id, title) VALUES (1, 'b')`)
	return s
}

func (s *pair) exec(sql string) {
	s.t.Helper()
	_, err := s.db.Exec(s.t.Context(), sql)
	require.NoError(s.t, err)
}

// push pushes events and returns the ids of their entries.
func (s *pair) push(events ...string) (ids []string) {
	s.t.Helper()
	for _, event := range events {
		id, err := s.redis.XAdd(s.t.Context(),
			&redis.XAddArgs{Stream: "book-like-events", Values: []any{"event", event}}).Result()
		require.NoError(s.t, err)
		ids = append(ids, id)
	}
	return ids
}

func (s *pair) program(args ...string) result {
	s.t.Helper()
	return program(s.t, s.env, args...)
}

func TestVerify(t *testing.T) {
	s := newPair(t)
	none := s.program("verify")
	none.requireDone(t)
	require.Equal(t, "book-like-events: no checkpoint: nothing has been drained yet: nothing to verify\n", none.stdout)

	s.push("1:1:LIKE", "1:1:DISLIKE", "2:1:LIKE")
	require.Zero(t, s.program("drain").code)
	ids := s.push("1:1:LIKE", "1:1:LIKE")
	even := s.program("verify")
	even.requireDone(t)
	require.Equal(t, "book-like-events: balanced: 2 applied + 1 dead letter = 3 processed + 0 in flight; 5 added = 3 "+
		"read + 2 left\n", even.stdout)

	require.NoError(t, s.redis.XDel(t.Context(), "book-like-events", ids[0]).Err())
	s.exec(`UPDATE aggregator.mark SET applied = applied + 1 WHERE child_profile_id = 1`)
	r := s.program("verify")
	require.Equal(t, exitFailed, r.code)
	require.Equal(t, "book-like-events: not balanced: 1 too many: 3 applied + 1 dead letter, but 3 entries processed + "+
		"0 in flight: some were counted twice; "+
		"1 removed unread: 5 entries were ever added, 1 are left and 3 were read: XDEL, XTRIM or MAXLEN was used\n", r.stdout)
	require.Equal(t, "aggregator: reconciliation failed for 1 of 1 source\n", r.stderr)

	s.exec(`DELETE FROM aggregator.dead_letter`)
	s.exec(`UPDATE aggregator.mark SET applied = applied - 1 WHERE child_profile_id = 1`)
	r = s.program("verify", "-o", "json")
	require.Equal(t, exitFailed, r.code)
	var document struct {
		Balanced bool
		Sources  []verification
	}
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &document))
	require.False(t, document.Balanced)
	require.Len(t, document.Sources, 1)
	require.EqualValues(t, -1, document.Sources[0].Difference)
	require.EqualValues(t, 1, document.Sources[0].Vanished)
	require.Equal(t, "not balanced", document.Sources[0].State)
}

// Nothing is called accepted that is not.
func TestVerifyAcceptFails(t *testing.T) {
	s := newPair(t)
	s.push("1:1:LIKE", "1:1:LIKE")
	require.Zero(t, s.program("drain").code)
	s.exec(`UPDATE aggregator.mark SET applied = applied + 1`)
	s.exec(`ALTER TABLE aggregator.incident ADD CONSTRAINT never CHECK (accepted_at IS NULL)`)
	r := s.program("verify", "--accept", "-o", "json")
	r.requireFailure(t, exitFailed, `violates check constraint "never"`)
	require.Empty(t, r.stdout)
	s.exec(`ALTER TABLE aggregator.incident DROP CONSTRAINT never`)
	r = s.program("verify", "--accept", "-o", "json")
	r.requireDone(t)
	require.Contains(t, r.stdout, `"kind": "count_mismatch"`)
	r = s.program("verify", "--accept", "-o", "json")
	r.requireDone(t)
	require.JSONEq(t, `{"accepted": []}`, r.stdout)
}

// Open incidents are shown also when the source cannot be compared.
func TestVerifyUnknown(t *testing.T) {
	s := newPair(t)
	s.push("1:1:LIKE")
	require.Zero(t, s.program("drain").code)
	s.env[0] += "&lock_timeout=10ms"
	tx, err := s.db.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	look := func() verification {
		r := s.program("verify", "-o", "json")
		require.Equal(t, exitFailed, r.code, r.stderr)
		var document struct{ Sources []verification }
		require.NoError(t, json.Unmarshal([]byte(r.stdout), &document))
		require.Equal(t, "unknown", document.Sources[0].State)
		return document.Sources[0]
	}
	s.exec(`SELECT FROM aggregator.checkpoint FOR UPDATE`)
	require.NotNil(t, look().Incidents, "a list, and not null")
	require.NoError(t, tx.Rollback(t.Context()))
	s.exec(`INSERT INTO aggregator.incident (source, kind, epoch, from_ms, from_seq, to_ms, to_seq, to_entries, entries,
		retained) VALUES ('book-like-events', 'entries_removed', 0, 1, 0, 1, 0, 0, 1, 0)`)
	again, err := s.db.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = again.Rollback(context.WithoutCancel(t.Context())) }()
	s.exec(`SELECT FROM aggregator.checkpoint FOR UPDATE`)
	require.Len(t, look().Incidents, 1)
}

func TestVerifyUnreachable(t *testing.T) {
	s := newPair(t)
	program(t, []string{s.env[0], "REDIS_URL=redis://u:hunter2@127.0.0.1:1"}, "verify").
		requireFailure(t, exitUnreachable, "Redis at 127.0.0.1:1 is not reachable")
	program(t, []string{s.env[1], "DATABASE_URL=postgres://u:hunter2@127.0.0.1:1/d"}, "verify").
		requireFailure(t, exitUnreachable, "PostgreSQL at 127.0.0.1:1")
}

func TestVerifyScores(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	s.exec(`INSERT INTO child_profile (id, name) SELECT p, 'child' FROM generate_series(2, 40) p`)
	s.exec(`INSERT INTO genre (id, name) SELECT g, 'genre' FROM generate_series(0, 6) g`)
	s.exec(`INSERT INTO topic (id, name) SELECT x, 'topic' FROM generate_series(0, 9) x`)
	s.exec(`INSERT INTO book (id, title, genre_id) SELECT b, 'b', b % 7 FROM generate_series(2, 30) b`)
	s.exec(`INSERT INTO book_topic SELECT b, (b + x * x) % 10 FROM generate_series(2, 30) b, generate_series(0, 2) x ON ` +
		`CONFLICT DO NOTHING`)
	s.exec(`INSERT INTO book_mbti SELECT b, b % 16 + 1 FROM generate_series(2, 30) b`)
	// Sums of such weights depend on the order in which they are added.
	weights := "AGGREGATOR_EVENTS_WEIGHTS=LIKE=0.1,DISLIKE=-0.3,FINISHED=0.7"
	s.env = append(s.env, weights)
	for chunk := range 4 {
		var events []string
		for i := range 300 {
			n := chunk*300 + i
			events = append(events, fmt.Sprintf(
				"%d:%d:%s", n*31%39+1, n*7%30+1, []string{"LIKE", "DISLIKE", "FINISHED"}[n*n*n%5%3]))
		}
		s.push(events...)
		require.Zero(t, s.program("drain").code)
	}
	equal := s.program("verify", "--scores")
	equal.requireDone(t)
	require.Regexp(t, `(?m)^scores: equal: 39 of 40 profiles compared with their latest row of history$`, equal.stdout)

	s.exec(`UPDATE cumulative_mbti_score SET e_score = e_score + 0.25 WHERE child_profile_id = 2`)
	s.exec(`DELETE FROM child_personality_history h WHERE child_profile_id = 5
		AND id = (SELECT max(id) FROM child_personality_history WHERE child_profile_id = 5)`)
	r := s.program("verify", "--scores")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stdout, "book-like-events: balanced: ")
	require.Contains(t, r.stdout, "\nscores: 2 differ: ")
	require.Regexp(t, `(?m)^  profile 2, row \d+: the score of E is \S+, and \S+ in the history`, r.stdout)
	require.Regexp(t, `(?m)^  profile 5, row \d+: `, r.stdout)
	require.Regexp(t, `^aggregator: the scores of 2 of 39 profiles differ from their history\n$`, r.stderr)

	r = s.program("verify", "--scores", "-o", "json")
	require.Equal(t, exitFailed, r.code)
	var document struct {
		Balanced bool
		Scores   audit.ScoresReport
	}
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &document))
	require.True(t, document.Balanced)
	require.EqualValues(t, 40, document.Scores.Profiles)
	require.EqualValues(t, 2, document.Scores.Different)
	require.Len(t, document.Scores.First, 2)
	require.EqualValues(t, 2, document.Scores.First[0].ProfileID)

	without := s.program("verify", "-o", "json")
	without.requireDone(t)
	require.NotContains(t, without.stdout, "scores")
	s.program("verify", "--scores", "--accept").requireFailure(t, exitUsage, "--accept and --scores: one at a time")
}
