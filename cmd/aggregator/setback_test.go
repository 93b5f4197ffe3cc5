package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/doctor"
	"aggregator/internal/ledger"
	"aggregator/internal/testenv"
)

// scored is a pair whose book is worth something to a genre.
func scored(t *testing.T) *pair {
	t.Helper()
	s := newPair(t)
	s.exec(`INSERT INTO genre (id, name) VALUES (1, 'g')`)
	s.exec(`UPDATE book SET genre_id = 1`)
	return s
}

func (s *pair) pushMany(n int, event string) {
	s.t.Helper()
	for range n {
		s.push(event)
	}
}

// backup copies the database. What it returns puts the copy in its place, as a restore does, with whoever is
// connected cut off; it may be called again.
func (s *pair) backup() (restore func()) {
	s.t.Helper()
	u, err := url.Parse(s.db.Config().ConnString())
	require.NoError(s.t, err)
	name := strings.TrimPrefix(u.Path, "/")
	u.Path = "/postgres"
	admin, err := pgx.Connect(s.t.Context(), u.String())
	require.NoError(s.t, err)
	do := func(sql string) {
		_, err := admin.Exec(context.WithoutCancel(s.t.Context()), sql)
		require.NoError(s.t, err, sql)
	}
	copyOf := func(to, from string) {
		require.Eventually(s.t, func() bool { // who was connected may still be on his way out
			do(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '` + from + `'`)
			_, err := admin.Exec(s.t.Context(), fmt.Sprintf(`CREATE DATABASE %q TEMPLATE %q`, to, from))
			return err == nil
		}, patience, 20*time.Millisecond)
	}
	reopen := func() {
		_ = s.db.Close(s.t.Context())
		s.db, err = pgx.Connect(s.t.Context(), s.db.Config().ConnString())
		require.NoError(s.t, err)
	}
	kept := name + "_backup"
	copyOf(kept, name)
	reopen()
	s.t.Cleanup(func() {
		do(fmt.Sprintf(`DROP DATABASE IF EXISTS %q WITH (FORCE)`, kept))
		_ = admin.Close(context.WithoutCancel(s.t.Context()))
	})
	return func() {
		s.t.Helper()
		do(fmt.Sprintf(`DROP DATABASE %q WITH (FORCE)`, name))
		copyOf(name, kept)
		reopen()
	}
}

// drained is what a drain says that ends with this code.
func (s *pair) drained(code int, args ...string) (drainReport, result) {
	s.t.Helper()
	r := s.program(append([]string{"drain", "-o", "json", "--log-level", "error"}, args...)...)
	require.Equal(s.t, code, r.code, r.stdout+r.stderr)
	var report drainReport
	require.NoError(s.t, json.Unmarshal([]byte(r.stdout), &report), r.stderr)
	return report, r
}

// requireOneIncident drains, and returns the one incident that is told of.
func (s *pair) requireOneIncident(kind ledger.IncidentKind) incidentLine {
	s.t.Helper()
	report, r := s.drained(exitFailed)
	require.Len(s.t, report.Incidents, 1, r.stdout)
	require.Equal(s.t, kind, report.Incidents[0].Kind)
	require.Contains(s.t, r.stderr, "open incidents: 1;")
	require.Equal(s.t, 1, strings.Count(r.stderr, " incident="), r.stderr)
	return report.Incidents[0]
}

// accept accepts what is open, after which nothing is said any more.
func (s *pair) accept() {
	s.t.Helper()
	r := s.program("verify", "--accept")
	r.requireDone(s.t)
	require.Contains(s.t, r.stdout, "accepting: incident: ")
	require.NotContains(s.t, r.stdout, "not balanced")
	again := s.program("verify")
	again.requireDone(s.t)
	report, said := s.drained(exitDone)
	require.Empty(s.t, report.Incidents)
	require.NotContains(s.t, said.stderr, "incident")
	require.Contains(s.t, s.program("runs", "--kind", "accept").stdout, "incident: ")
	require.Contains(s.t, s.program("verify", "--accept").stdout, "no incident is open\n")
}

func (s *pair) doctorFinds(verdict doctor.Verdict, want string) {
	s.t.Helper()
	r := s.program("doctor", "-o", "json")
	var document struct{ Findings []doctor.Finding }
	require.NoError(s.t, json.Unmarshal([]byte(r.stdout), &document), r.stderr)
	for _, f := range document.Findings {
		if f.Verdict == verdict && strings.Contains(f.Found, want) {
			return
		}
	}
	require.Fail(s.t, "not found: "+want, r.stdout)
}

// PostgreSQL is restored from a backup, and everything says so until it is accepted.
func TestPostgresSetBack(t *testing.T) {
	testenv.Long(t)
	for name, tc := range map[string]struct {
		retain         string
		retained, lost int64
		score          int64
	}{
		"trimmed":  {"0s", 0, 50, 2 * 3},
		"retained": {"1h", 50, 0, 2 * (3 + 48)},
	} {
		t.Run(name, func(t *testing.T) {
			s := scored(t)
			s.env = append(s.env, "AGGREGATOR_TRIM_RETAIN="+tc.retain)
			s.pushMany(3, "1:1:LIKE")
			s.drained(exitDone)
			s.doctorFinds(doctor.OK, "none is open")
			restore := s.backup()
			s.pushMany(48, "1:1:LIKE")
			s.pushMany(2, "2:1:LIKE")
			s.drained(exitDone)
			restore()

			// Before anything is drained, all that only look see it.
			s.doctorFinds(doctor.Problem, "PostgreSQL was set back")
			status := s.program("status")
			require.Contains(t, status.stdout, "incident: book-like-events: postgres_set_back: PostgreSQL was set back")
			require.Zero(t, s.number(`SELECT count(*) FROM aggregator.incident`), "they only read")

			incident := s.requireOneIncident(ledger.PostgresSetBack)
			require.EqualValues(t, 50, incident.Entries)
			require.Equal(t, tc.retained, incident.Retained)
			require.Equal(t, tc.lost, incident.Lost)
			require.Contains(t, incident.Text,
				fmt.Sprintf("50 lie between; %d of them are still in Redis and are read again, %d are gone", tc.retained, tc.lost))
			require.Regexp(t, `entries up to \d+-\d+ \(20\S+Z\) were processed, and this database knows of those up to `+
				`\d+-\d+ \(20\S+Z\)`, incident.Text)
			require.Equal(t, tc.score, s.number(scoreOfBori))

			// It does not end by itself, nor is it logged again by each drain.
			s.pushMany(5, "1:1:LIKE")
			report, r := s.drained(exitFailed)
			require.Equal(t, []incidentLine{incident}, report.Incidents)
			require.NotContains(t, r.stderr, " incident=")
			require.EqualValues(t, 5, report.Applied)
			verify := s.program("verify")
			require.Equal(t, exitFailed, verify.code)
			require.Contains(t, verify.stdout, "PostgreSQL was set back")
			require.NotContains(t, verify.stdout, "XDEL")
			require.NotContains(t, verify.stdout, "twice")
			for range 2 { // the service, and its next start
				p := s.start()
				p.eventually("/readyz", "PostgreSQL was set back")
				code, _ := p.get("/readyz")
				require.Equal(t, 503, code)
				p.eventually("/metrics", `aggregator_open_incidents{kind="postgres_set_back",source="book-like-events"} 1`)
				require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
				require.NoError(t, p.cmd.Wait())
			}

			p := s.start()
			p.eventually("/readyz", "PostgreSQL was set back")
			s.accept()
			p.eventually("/readyz", `"ready": true`)
			p.eventually("/metrics", `aggregator_open_incidents{kind="postgres_set_back",source="book-like-events"} 0`)
			s.pushMany(2, "1:1:DISLIKE")
			require.Eventually(t, func() bool { return s.number(scoreOfBori) == tc.score+2*5-2*2 }, patience,
				20*time.Millisecond)
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
			require.NoError(t, p.cmd.Wait())
			s.program("verify").requireDone(t)
		})
	}
}

// It is accepted before anything was drained since.
func TestAcceptBeforeTheDrain(t *testing.T) {
	testenv.Long(t)
	s := scored(t)
	s.pushMany(3, "1:1:LIKE")
	s.drained(exitDone)
	restore := s.backup()
	s.pushMany(4, "1:1:LIKE")
	s.drained(exitDone)
	restore()
	s.accept()
	s.pushMany(2, "1:1:LIKE")
	s.drained(exitDone)
	require.EqualValues(t, 10, s.number(scoreOfBori))

	// The next one is told of again.
	s.pushMany(3, "1:1:LIKE")
	s.drained(exitDone)
	restore()
	require.EqualValues(t, 9, s.requireOneIncident(ledger.PostgresSetBack).Lost)
	s.accept()
}

// A base backup that was made while a chunk was in flight has marks after its checkpoint, whose entries were
// trimmed since: these are applied, and nothing is counted twice.
func TestOlderBaseBackup(t *testing.T) {
	testenv.Long(t)
	s := scored(t)
	s.pushMany(10, "1:1:LIKE")
	s.drained(exitDone)
	var ms, seq, entries int64
	const read = `SELECT position_ms, position_seq, entries FROM aggregator.checkpoint`
	require.NoError(t, s.db.QueryRow(t.Context(), read).Scan(&ms, &seq, &entries))
	s.pushMany(12, "1:1:LIKE")
	s.drained(exitDone)
	restore := s.backup()
	s.pushMany(20, "1:1:LIKE")
	s.drained(exitDone)
	restore()
	s.exec(fmt.Sprintf(`UPDATE aggregator.checkpoint SET position_ms = %d, position_seq = %d, entries = %d`, ms, seq,
		entries))

	verify := s.program("verify")
	require.Equal(t, exitFailed, verify.code)
	require.Contains(t, verify.stdout, "32 processed and trimmed entries are not known to PostgreSQL")
	incident := s.requireOneIncident(ledger.PostgresSetBack)
	require.EqualValues(t, 20, incident.Lost)
	require.Contains(t, incident.Text, "32 are gone, of which 12 are applied")
	verify = s.program("verify")
	require.Contains(t, verify.stdout, "12 of these are applied")
	require.NotContains(t, verify.stdout, "twice")
	require.EqualValues(t, 44, s.number(scoreOfBori))
	s.accept()
}

// The database is one that has never drained from this stream, which another one did.
func TestDatabaseWithoutCheckpoint(t *testing.T) {
	testenv.Long(t)
	s := scored(t)
	restore := s.backup()
	s.pushMany(7, "1:1:LIKE")
	s.drained(exitDone)
	restore()
	s.doctorFinds(doctor.Problem, "7 entries up to ")
	incident := s.requireOneIncident(ledger.PostgresSetBack)
	require.EqualValues(t, 7, incident.Lost)
	require.Contains(t, incident.Text, "this database has no checkpoint of the source")
	s.accept()
}

// The Redis is another one, or was emptied.
func TestSourceMissing(t *testing.T) {
	testenv.Long(t)
	for name, lose := range map[string]func(s *pair){
		"FLUSHALL": func(s *pair) { require.NoError(s.t, s.redis.FlushAll(s.t.Context()).Err()) },
		"DEL":      func(s *pair) { require.NoError(s.t, s.redis.Del(s.t.Context(), "book-like-events").Err()) },
		"database number": func(s *pair) {
			s.env[1] = regexp.MustCompile(`/0$`).ReplaceAllString(s.env[1], "/3")
			options := *s.redis.Options()
			options.DB = 3
			s.redis = redis.NewClient(&options)
			s.t.Cleanup(func() { _ = s.redis.Close() })
		},
		"server": func(s *pair) {
			u := testenv.Redis(s.t)
			s.env[1] = "AGGREGATOR_REDIS_URL=" + testenv.RedisAs(s.t, u, "aggregator_stream", "book-like-events")
			options, err := redis.ParseURL(u)
			require.NoError(s.t, err)
			s.redis = redis.NewClient(options)
			s.t.Cleanup(func() { _ = s.redis.Close() })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := scored(t)
			s.pushMany(9, "1:1:LIKE")
			s.drained(exitDone)
			lose(s)
			const text = "PostgreSQL has processed 9 entries of this source, up to "
			s.doctorFinds(doctor.Problem, text)
			require.Contains(t, s.program("status").stdout, text)
			incident := s.requireOneIncident(ledger.SourceMissing)
			require.Contains(t, incident.Text, text)
			require.Contains(t, incident.Text, "this Redis has never seen it")
			s.pushMany(3, "1:1:LIKE")
			report, _ := s.drained(exitFailed)
			require.EqualValues(t, 3, report.Applied)
			s.accept()
			require.EqualValues(t, 24, s.number(scoreOfBori))
		})
	}
}

// Redis was rolled back: its stream ends before the checkpoint; or it has been given more since, so that
// only the counts tell.
func TestRedisSetBack(t *testing.T) {
	testenv.Long(t)
	for name, since := range map[string]int{"no entries since": 0, "entries since": 2} {
		t.Run(name, func(t *testing.T) {
			s := scored(t)
			s.pushMany(4, "1:1:LIKE")
			s.drained(exitDone)
			older, err := s.redis.Dump(t.Context(), "book-like-events").Result()
			require.NoError(t, err)
			s.pushMany(5, "1:1:LIKE")
			s.drained(exitDone)
			require.NoError(t, s.redis.RestoreReplace(t.Context(), "book-like-events", 0, older).Err())
			s.pushMany(since, "1:1:LIKE")
			incident := s.requireOneIncident(ledger.RedisSetBack)
			require.Contains(t, incident.Text, "Redis was set back")
			require.EqualValues(t, 5, incident.Entries)
			require.EqualValues(t, 18+2*since, s.number(scoreOfBori))
			s.accept()
			s.pushMany(1, "1:1:LIKE")
			s.drained(exitDone)
			require.EqualValues(t, 20+2*since, s.number(scoreOfBori))
			s.program("verify").requireDone(t)
		})
	}
}

// A producer trims what it adds to; the shipped user for producers may do that.
func TestEntriesRemoved(t *testing.T) {
	testenv.Long(t)
	for name, tc := range map[string]struct {
		retain string
		remove func(s *pair)
		lost   int64
	}{
		"MAXLEN by a producer": {"0s", func(s *pair) {
			producer, err := redis.ParseURL(testenv.RedisAs(s.t, s.adminURL()+"/0", "aggregator_producer", "book-like-events"))
			require.NoError(s.t, err)
			client := redis.NewClient(producer)
			defer client.Close()
			require.NoError(s.t, client.XAdd(
				s.t.Context(), &redis.XAddArgs{Stream: "book-like-events", MaxLen: 1, Values: []any{"event", "1:1:LIKE"}}).Err())
		}, 6},
		"MAXLEN, retained": {"1h", func(s *pair) {
			require.NoError(s.t, s.redis.XAdd(
				s.t.Context(), &redis.XAddArgs{Stream: "book-like-events", MaxLen: 2, Values: []any{"event", "1:1:LIKE"}}).Err())
		}, 5},
		"XDEL, retained": {"1h", func(s *pair) {
			id := s.push("1:1:LIKE")[0]
			require.NoError(s.t, s.redis.XDel(s.t.Context(), "book-like-events", id).Err())
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := scored(t)
			s.env = append(s.env, "AGGREGATOR_TRIM_RETAIN="+tc.retain)
			s.pushMany(4, "1:1:LIKE")
			s.drained(exitDone)
			s.pushMany(6, "1:1:LIKE")
			tc.remove(s)
			incident := s.requireOneIncident(ledger.EntriesRemoved)
			require.Equal(t, tc.lost, incident.Lost)
			require.Contains(t, s.program("status").stdout, "entries_removed")
			s.accept()
		})
	}
}

// Two databases are drained into from one stream, in turn: each misses what the other one trimmed.
func TestTwoDatabases(t *testing.T) {
	testenv.Long(t)
	s, other := scored(t), &pair{}
	*other = *s
	other.env = append([]string(nil), s.env...)
	database := testenv.Database(t)
	other.env[0] = "AGGREGATOR_POSTGRES_URL=" + testenv.As(t, database, "aggregator_daemon")
	var err error
	other.db, err = pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = other.db.Close(context.WithoutCancel(t.Context())) })

	s.pushMany(3, "1:1:LIKE")
	s.drained(exitDone)
	other.requireOneIncident(ledger.PostgresSetBack)
	other.accept()
	s.pushMany(4, "1:1:LIKE")
	other.drained(exitDone)
	s.pushMany(2, "1:1:LIKE")
	incident := s.requireOneIncident(ledger.PostgresSetBack)
	require.EqualValues(t, 4, incident.Lost)
	require.Contains(t, incident.Text, "or the same stream is drained into another database, too")

	// A service that is at it all the time is told by its audit.
	p := s.start()
	s.accept()
	p.eventually("/readyz", `"ready": true`)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.cmd.Wait())
}

// However many find it at once, it is one incident.
func TestOneIncidentOfMany(t *testing.T) {
	testenv.Long(t)
	s := scored(t)
	s.pushMany(3, "1:1:LIKE")
	s.drained(exitDone)
	restore := s.backup()
	s.pushMany(9, "1:1:LIKE")
	s.drained(exitDone)
	restore()
	s.pushMany(50, "1:1:LIKE")
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() { assert.Equal(t, exitFailed, s.program("drain", "--chunk-max-events", "10").code) })
	}
	all.Wait()
	require.EqualValues(t, 1, s.number(`SELECT count(*) FROM aggregator.incident`))
	require.EqualValues(t, 9, s.number(`SELECT sum(entries)::bigint FROM aggregator.incident`))
	require.EqualValues(t, 106, s.number(scoreOfBori))
	s.accept()
}

// A reset is none, nor is one that was killed before its commit: the bookmark is put back, and that is all.
func TestResetIsNoIncident(t *testing.T) {
	s := scored(t)
	s.env = append(s.env, "AGGREGATOR_TRIM_RETAIN=1h")
	s.pushMany(3, "1:1:LIKE")
	s.drained(exitDone)
	require.NoError(t, s.redis.Do(
		t.Context(), "XGROUP", "SETID", "book-like-events", "aggregator", "0-0", "ENTRIESREAD", "0").Err())
	s.drained(exitDone)
	s.reset()
	s.drained(exitDone)
	s.pushMany(1, "1:1:LIKE")
	s.drained(exitDone)
	s.reset()
	s.program("verify").requireDone(t)
	require.Zero(t, s.number(`SELECT count(*) FROM aggregator.incident`))
}
