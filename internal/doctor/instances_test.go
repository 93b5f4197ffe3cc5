package doctor_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/internal/cluster"
	"aggregator/internal/doctor"
	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

// service is a row of a service that began and was last seen so long ago.
func service(host, key string, began, seen time.Duration, read int) string {
	return aRun("service", host, began, seen, read, "source "+key, "NULL")
}

func aRun(kind, host string, began, seen time.Duration, read int, note, due string) string {
	return fmt.Sprintf(`INSERT INTO aggregator.run (key, kind, host, version, started_at, seen_at, read, applied, dead,
		profiles, chunks, note, due_at) VALUES (gen_random_uuid(), '%s', '%s', 'v', now() - interval '%d ms',
		now() - interval '%d ms', %d, 0, 0, 0, 0, '%s', %s)`, kind, host, began.Milliseconds(), seen.Milliseconds(), read,
		note, due)
}

// member is a row that was renewed so long ago and lasts until so long from now.
func member(name, key string, seen, lasts time.Duration) string {
	return fmt.Sprintf(`INSERT INTO aggregator.member VALUES ('%s', 't', now() - interval '1 hour',
		now() - interval '%d ms', now() + interval '%d ms', false, 'v', 'stream', '%s', 1)`, name, seen.Milliseconds(),
		lasts.Milliseconds(), key)
}

func lease(source, holder string, lasts time.Duration) string {
	return fmt.Sprintf(`INSERT INTO aggregator.lease VALUES ('%s', '%s', now(), now() + interval '%d ms')`, source, holder,
		lasts.Milliseconds())
}

func instances(t *testing.T, rows ...string) (string, []doctor.Finding) {
	t.Helper()
	u := testenv.Database(t)
	exec(t, u, rows...)
	u = testenv.As(t, u, "aggregator_daemon")
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: u, MaxConns: 2})
	require.NoError(t, err)
	defer pool.Close()
	return u, doctor.Instances(t.Context(), pool, cluster.Group{Kind: "stream", Key: "k", Partitions: 1}, 5*time.Second)
}

func foundBy(findings []doctor.Finding, check string) string {
	for _, f := range findings {
		if f.Check == check {
			return string(f.Verdict) + ": " + f.Found
		}
	}
	return ""
}

// A service without leases is no member, and is seen by its run.
func TestInstances(t *testing.T) {
	testenv.Long(t)
	const hour, now = time.Hour, time.Second
	for name, tc := range map[string]struct {
		rows []string
		want string
	}{
		"none": {nil, "ok: none is running: events wait until aggregator run or drain is started"},
		"members": {
			[]string{
				service("a", "k", hour, now, 5), service("b", "k", hour, now, 5), member("a/1/x", "k", now, 4*now),
				member("b/1/x", "k", now, 4*now),
			}, "ok: 2 share the sources",
		},
		"one without leases beside one with": {
			[]string{service("a", "k", hour, now, 0), service("b", "k", hour, now, 0), member("a/1/x", "k", now, 4*now)},
			"warning: 2 services work on the stream k, and 1 share it by leases; without leases: one on b. Such a one has " +
				"lease.ttl 0s",
		},
		"beside one that lease.name names": {
			[]string{service("a", "k", hour, now, 5), service("a", "k", hour, now, 5), member("first", "k", now, 4*now)},
			"warning: 2 services work on the stream k, and 1 share it by leases; without leases: 1 of these: 2 on a",
		},
		"only such without leases": {
			[]string{service("a", "k", hour, now, 5), service("b", "k", hour, now, 0)},
			"warning: 2 services work on the stream k, and 0 share it by leases; without leases: one on a, one on b",
		},
		"one alone without leases": {
			[]string{service("a", "k", hour, now, 5)},
			"ok: no member shares the sources; without leases, or by schedule: one on a",
		},
		"one of another source": {
			[]string{
				service("a", "k", hour, now, 5), service("b", "other", hour, now, 5),
				service("c", "k, 4 partitions", hour, now, 5), member("a/1/x", "k", now, 4*now),
			}, "ok: 1 share the sources",
		},
		"one that has just started": {
			[]string{service("a", "k", hour, now, 5), service("b", "k", 2*now, now, 5), member("a/1/x", "k", now, 4*now)},
			"ok: 1 share the sources",
		},
		"only one that has just started": {
			[]string{service("a", "k", 2*now, now, 0)},
			"ok: no member shares the sources; services that have just started, drain by schedule, or have another source: " +
				"one on a",
		},
		"one that was killed": {
			[]string{
				service("a", "k", hour, now, 5), service("b", "k", hour, 14*now, 5), member("a/1/x", "k", now, 4*now),
				member("b/1/x", "k", 14*now, -9*now),
			}, "ok: 1 share the sources",
		},
		"one that was killed and took its name again": {
			[]string{
				service("a", "k", hour, 14*now, 5), service("a", "k", 14*now, 4*now, 5), member("first", "k", now, 4*now),
			}, "ok: 1 share the sources",
		},
		"one that was killed a while ago": {
			[]string{service("a", "k", hour, now, 5), service("a", "k", hour, 30*now, 5), member("first", "k", now, 4*now)},
			"ok: 1 share the sources",
		},
		"an older program": {
			[]string{
				service("a", "k", hour, now, 5), service("b", "k", hour, now, 5), member("a/1/x", "k", now, 4*now),
				lease("k:1", "b/1/x", 4*now),
			}, "ok: 1 share the sources",
		},
		"by schedule": {
			[]string{
				service("a", "k", hour, now, 5), service("b", "k", hour, now, 5),
				aRun("drain", "a", 2*time.Minute, 2*time.Minute, 5, "source k", "now() - interval '2 minutes'"),
				aRun("drain", "b", time.Minute, time.Minute, 5, "source k", "now() - interval '1 minute'"),
			},
			"ok: no member shares the sources; services that have just started, drain by schedule",
		},
		"by schedule, before the first time": {
			[]string{service("a", "k", hour, now, 0), service("b", "k", hour, now, 0)},
			"ok: no member shares the sources; without leases, or by schedule: one on a, one on b",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, findings := instances(t, tc.rows...)
			found := foundBy(findings, "instances")
			require.Equal(t, tc.want, found[:min(len(found), len(tc.want))], found)
		})
	}
}

// Rows that outlast lease.ttl keep others from a source, unless their instance lives and has a longer one.
func TestLeasesThatLastTooLong(t *testing.T) {
	t.Parallel()
	const long = 30 * time.Minute
	_, findings := instances(t, member("lives", "k", time.Second, long), lease("k", "lives", long),
		member("gone", "k", long, -long), lease("k:1", "gone", time.Second), lease("job:purge", "b", 9*time.Second))
	require.Equal(t, "ok: no instance that gives no sign of life keeps any for longer than lease.ttl",
		foundBy(findings, "leases"))

	u, findings := instances(t, member("o''k", "k", time.Minute, long), lease("k:1", "o''k", long),
		lease("k:2", "o''k", long))
	require.Regexp(t, `^warning: the rows of o'k last until \S+Z, in (30m0s|29m\d+s), longer than lease.ttl here allows, `+
		`and it was last seen at \S+Z: no other instance takes these until then: k:1, k:2$`, foundBy(findings, "leases"))
	exec(t, u, adviceOf(findings, "leases")[len("if it has no longer lease.ttl, and is gone: "):])
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: u, MaxConns: 2})
	require.NoError(t, err)
	defer pool.Close()
	var left int
	require.NoError(t, pool.QueryRow(t.Context(),
		`SELECT (SELECT count(*) FROM aggregator.lease) + (SELECT count(*) FROM aggregator.member)`).Scan(&left))
	require.Zero(t, left)

	_, findings = instances(t, lease("job:purge", "b", long))
	require.Contains(t, foundBy(findings, "leases"), "the rows of b last until ")
}

// Each instance that lives has connections, and one that is gone has none.
func TestConnectionsOfInstances(t *testing.T) {
	testenv.Long(t)
	const hour, now = time.Hour, time.Second
	const limit = `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 25', current_database()); END $$`
	two := []string{
		limit, service("a", "k", hour, now, 5), service("b", "k", hour, now, 5), service("c", "k", hour, hour, 5),
		member("a/1/x", "k", now, 4*now), member("c/1/x", "k", hour, -hour),
	}
	require.Equal(t, "ok: 2 instances are alive, and with 10 for each, as these settings have it, they use 20 of the 25 "+
		"that the limit of the database allows to all", foundBy(findingsOf(t, two...), "connections"))
	require.Equal(t, "problem: 3 instances are alive, and with 10 for each, as these settings have it, they use 30, and "+
		"the limit of the database leaves 25",
		foundBy(findingsOf(t, append(two, service("d", "k", hour, now, 5))...), "connections"))
	require.Equal(t, "ok: the service uses 10 of the 25 that the limit of the database allows to all",
		foundBy(findingsOf(t, limit), "connections"))
}
