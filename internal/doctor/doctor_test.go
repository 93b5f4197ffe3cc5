package doctor_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/internal/doctor"
	"aggregator/internal/events"
	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// without are the findings that are not in order, as "verdict check: found".
func without(findings []doctor.Finding) []string {
	var all []string
	for _, f := range findings {
		if f.Verdict != doctor.OK {
			all = append(all, string(f.Verdict)+" "+f.Check+": "+f.Found)
		}
	}
	return all
}

func requireFinding(t *testing.T, findings []doctor.Finding, want string) {
	t.Helper()
	for _, f := range without(findings) {
		if strings.HasPrefix(f, want) {
			return
		}
	}
	require.Fail(t, "not found", "%s in %q", want, without(findings))
}

var (
	stream = events.Options{Kind: events.KindStream, Key: "book-like-events", PushSide: events.PushLeft, Partitions: 1}
	list   = events.Options{Kind: events.KindList, Key: "BookLikeEventList", PushSide: events.PushLeft, Partitions: 1}
)

func connect(t *testing.T, u string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(u)
	require.NoError(t, err)
	o.DisableIdentity = true
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func lookAt(t *testing.T, client redis.UniversalClient, o events.Options) []doctor.Finding {
	t.Helper()
	sources, err := events.Sources(client, o)
	require.NoError(t, err)
	findings, err := doctor.Redis(t.Context(), client, o, sources)
	require.NoError(t, err)
	return findings
}

// As the users of config/redis.acl, on a server as it should be, there is nothing to say, but that
// these may not read settings.
func TestRedisInOrder(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	admin := connect(t, server)
	require.NoError(t, admin.ConfigSet(t.Context(), "appendonly", "yes").Err())
	require.Eventually(t, func() bool {
		info, err := admin.InfoMap(t.Context(), "persistence").Result()
		return err == nil && info["Persistence"]["aof_rewrite_in_progress"] == "0" &&
			info["Persistence"]["aof_rewrite_scheduled"] == "0"
	}, 30*time.Second, 10*time.Millisecond)
	unseen := []string{
		"unknown appendfsync: could not check: NOPERM this user has no permissions to run the 'config|get' command",
		"unknown aof-load-truncated: could not check: NOPERM this user has no permissions to run the 'config|get' command",
	}
	findings := lookAt(t, connect(t, testenv.RedisAs(t, server, "aggregator_stream", "")), stream)
	require.Equal(t, unseen, without(findings))
	require.Len(t, findings, 10)
	findings = lookAt(t, connect(t, testenv.RedisAs(t, server, "aggregator_list", "")), list)
	require.Equal(t, append(unseen, "unknown side of pushing: not known: no list grew within 1s"), without(findings))

	for name, value := range map[string]string{"appendfsync": "always", "aof-load-truncated": "no"} {
		require.NoError(t, admin.ConfigSet(t.Context(), name, value).Err())
	}
	for _, f := range lookAt(t, admin, stream) {
		require.Equal(t, doctor.OK, f.Verdict, f)
	}
}

func TestRedisFaults(t *testing.T) {
	for name, tc := range map[string]struct {
		fault func(ctx context.Context, c *redis.Client) error
		from  events.Options
		want  string
	}{
		"eviction": {func(ctx context.Context, c *redis.Client) error {
			return c.ConfigSet(ctx, "maxmemory-policy", "allkeys-lru").Err()
		}, stream, "warning eviction: maxmemory-policy allkeys-lru, but no maxmemory yet"},
		"eviction with a limit": {func(ctx context.Context, c *redis.Client) error {
			return cmdErr(c.ConfigSet(ctx, "maxmemory", "1gb"), c.ConfigSet(ctx, "maxmemory-policy", "allkeys-lru"))
		}, stream, "problem eviction: maxmemory-policy allkeys-lru"},
		"eviction of what expires": {func(ctx context.Context, c *redis.Client) error {
			return c.ConfigSet(ctx, "maxmemory-policy", "volatile-ttl").Err()
		}, stream, "warning eviction: maxmemory-policy volatile-ttl"},
		"ids ahead of the clock": {func(ctx context.Context, c *redis.Client) error {
			return c.XAdd(ctx, &redis.XAddArgs{
				Stream: "book-like-events", ID: "99999999999999-0", Values: []any{"event", "1:1:LIKE"},
			}).Err()
		}, stream, "warning source book-like-events: its last id, 99999999999999-0, is ahead of the clock of Redis"},
		"no append-only file": {
			func(context.Context, *redis.Client) error { return nil }, stream,
			"warning append-only file: off",
		},
		"a file that is not flushed always": {func(ctx context.Context, c *redis.Client) error {
			return c.ConfigSet(ctx, "appendonly", "yes").Err()
		}, stream, "warning appendfsync: everysec: a power loss loses the last acknowledged events"},
		"a file that is loaded though cut": {func(ctx context.Context, c *redis.Client) error {
			return c.ConfigSet(ctx, "appendonly", "yes").Err()
		}, stream, "warning aof-load-truncated: yes: "},
		"a replica": {func(ctx context.Context, c *redis.Client) error {
			return c.ReplicaOf(ctx, "127.0.0.1", "1").Err()
		}, stream, "problem role: it is a replica"},
		"another type": {func(ctx context.Context, c *redis.Client) error {
			return c.LPush(ctx, "book-like-events", "1:1:LIKE").Err()
		}, stream, "problem source book-like-events: the key exists, but is not a stream"},
		"another type than a list": {func(ctx context.Context, c *redis.Client) error {
			return c.Set(ctx, "BookLikeEventList", "1:1:LIKE", 0).Err()
		}, list, "problem source {BookLikeEventList}:stream: the key BookLikeEventList exists, but is not a list"},
		"a stream that expires": {func(ctx context.Context, c *redis.Client) error {
			return cmdErr(c.XAdd(ctx, &redis.XAddArgs{Stream: "book-like-events", Values: []string{"event", "1:1:LIKE"}}),
				c.Expire(ctx, "book-like-events", time.Hour))
		}, stream, "problem expiry of book-like-events: the key book-like-events expires in 1h0m0s"},
		"a list that expires": {func(ctx context.Context, c *redis.Client) error {
			return cmdErr(c.LPush(ctx, "BookLikeEventList", "1:1:LIKE"), c.Expire(ctx, "BookLikeEventList", time.Hour))
		}, list, "problem expiry of {BookLikeEventList}:stream: the key BookLikeEventList expires in 1h0m0s"},
		"the stream of a list that expires": {func(ctx context.Context, c *redis.Client) error {
			return cmdErr(c.XAdd(ctx, &redis.XAddArgs{
				Stream: "{BookLikeEventList}:stream",
				Values: []string{"event", "1:1:LIKE"},
			}), c.Expire(ctx, "{BookLikeEventList}:stream", time.Hour))
		}, list, "problem expiry of {BookLikeEventList}:stream: the key {BookLikeEventList}:stream expires in 1h0m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := connect(t, testenv.Redis(t))
			require.NoError(t, tc.fault(t.Context(), client))
			requireFinding(t, lookAt(t, client, tc.from), tc.want)
		})
	}
}

// Where HELLO is renamed, neither version nor role can be told, and that is no problem.
func TestRedisWithoutHello(t *testing.T) {
	t.Parallel()
	client := connect(t, testenv.NewRedis(t, testenv.RedisArgs("--rename-command", "HELLO", "")).URL())
	findings := lookAt(t, client, stream)
	requireFinding(t, findings, "unknown version: could not check: ERR unknown command")
	requireFinding(t, findings, "unknown role: could not check: ERR unknown command")
}

// A command that is renamed away is found before the script that needs it runs.
func TestRedisWithoutCommands(t *testing.T) {
	t.Parallel()
	server := testenv.NewRedis(t, testenv.RedisArgs("--rename-command", "XTRIM", "", "--rename-command", "COPY", "copy2"))
	requireFinding(t, lookAt(t, connect(t, server.URL()), stream),
		"problem rights on book-like-events: Redis does not know XTRIM, COPY")
}

func cmdErr(all ...redis.Cmder) error {
	for _, cmd := range all {
		if cmd.Err() != nil {
			return cmd.Err()
		}
	}
	return nil
}

func TestRedisRights(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	user := testenv.RedisAs(t, server, "aggregator_stream", "")
	admin := connect(t, server)
	require.NoError(t, admin.Do(
		t.Context(), "ACL", "SETUSER", "aggregator_stream", "-copy", "-xtrim", "-xsetid", "-info", "-time").Err())
	findings := lookAt(t, connect(t, user), stream)
	requireFinding(t, findings, "problem rights on book-like-events: the user may not use TIME, XSETID, XTRIM, COPY")
	requireFinding(t, findings, "unknown eviction: could not check: no permission (+info)")
	requireFinding(t, findings, "unknown clock: could not check: no permission (+time)")

	for _, f := range findings {
		require.False(t, f.Verdict == doctor.Problem && !strings.HasPrefix(f.Check, "rights"),
			"a right that is missing for a look is no problem: %v", f)
	}

	require.NoError(t, admin.ConfigSet(t.Context(), "appendonly", "yes").Err())
	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "aggregator_stream", "+info", "-bgrewriteaof").Err())
	requireFinding(t, lookAt(t, connect(t, user), stream), "warning rewrite: the user may not BGREWRITEAOF")

	u, err := url.Parse(user)
	require.NoError(t, err)
	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "aggregator_stream", "-exists").Err())
	requireFinding(t, lookAt(t, connect(t, u.String()), stream), "problem source book-like-events: ")
	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "aggregator_stream", "+exists", "resetkeys").Err())
	requireFinding(t, lookAt(t, connect(t, u.String()), stream), "problem source book-like-events: ")
}

// While somebody pushes, the end that grows can be told.
func TestRedisSideOfPushing(t *testing.T) {
	for _, tc := range []struct{ push, set, want string }{
		{"left", "left", ""},
		{"right", "right", ""},
		{"right", "left", "problem side of pushing: producers push to the right of BookLikeEventList, and source.push_side " +
			"is left"},
		{"left", "right", "problem side of pushing: producers push to the left of BookLikeEventList, and source.push_side " +
			"is right"},
	} {
		t.Run(tc.push+", set to "+tc.set, func(t *testing.T) {
			t.Parallel()
			client := connect(t, testenv.Redis(t))
			push := client.LPush
			if tc.push == "right" {
				push = client.RPush
			}
			require.NoError(t, push(t.Context(), "BookLikeEventList", "0:1:LIKE").Err())
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for i := 1; ctx.Err() == nil; i++ {
					_ = push(ctx, "BookLikeEventList", fmt.Sprintf("%d:1:LIKE", i)).Err()
				}
			}()
			o := list
			o.PushSide = tc.set
			findings := lookAt(t, client, o)
			cancel()
			<-ended
			if tc.want != "" {
				requireFinding(t, findings, tc.want)
				return
			}
			for _, f := range findings {
				if f.Check == "side of pushing" {
					require.Equal(t, doctor.OK, f.Verdict)
				}
			}
		})
	}
}

func open(t *testing.T, u string, pooled bool) []doctor.Finding {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: u, MaxConns: 2, Pooled: pooled})
	require.NoError(t, err)
	defer pool.Close()
	findings, err := doctor.Postgres(t.Context(), pool, 10, nil, false)
	require.NoError(t, err)
	return findings
}

func exec(t *testing.T, u string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), u)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	for _, statement := range statements {
		_, err := conn.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
}

func TestPostgresInOrder(t *testing.T) {
	t.Parallel()
	server := testenv.NewPostgres(t, testenv.Durable())
	u := migrated(t, server)
	exec(t, u, profiles)
	u = testenv.As(t, u, "aggregator_daemon")
	require.Empty(t, without(open(t, u, false)))
	require.Empty(t, without(open(t, testenv.NewPgBouncer(t, u).Before(t, u), true)))
}

// migrated makes a database on a server of its own.
func migrated(t *testing.T, server *testenv.PostgresServer) string {
	t.Helper()
	u, err := server.CreateDatabase(t.Context(), "app", "")
	require.NoError(t, err)
	require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: u}))
	require.NoError(t, testenv.Grant(t.Context(), u))
	return u
}

func TestPostgresFaults(t *testing.T) {
	testenv.Long(t)
	for name, tc := range map[string]struct{ fault, want string }{
		"no fsync": {``, "problem durability: fsync is off"},
		"tables that a crash empties": {
			`ALTER TABLE aggregator.mark SET UNLOGGED; ALTER TABLE cumulative_mbti_score SET UNLOGGED`,
			"problem durability: aggregator.mark, cumulative_mbti_score UNLOGGED: a crash of PostgreSQL empties them",
		},
		"Citus": { // as far as the catalog tells
			`SET allow_system_table_mods = on; INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable,
				extversion) VALUES (99999, 'citus', 10, 2200, false, '13.2-1')`,
			"warning extensions: citus 13.2-1 is in this database",
		},
		"no key": {
			`ALTER TABLE genre_score DROP CONSTRAINT genre_score_pkey; CREATE INDEX ON genre_score (child_profile_id, genre_id)`,
			"problem indexes: genre_score has no unique key on (child_profile_id, genre_id): no score can be written",
		},
		"partial key": {
			`ALTER TABLE topic_score DROP CONSTRAINT topic_score_pkey; CREATE UNIQUE INDEX ON topic_score (topic_id, ` +
				`child_profile_id) WHERE score > 0`,
			"problem indexes: topic_score has no unique key on (child_profile_id, topic_id)",
		},
		"no index": {
			`ALTER TABLE book_topic DROP CONSTRAINT book_topic_pkey`,
			"warning indexes: book_topic has no index that begins with book_id",
		},
		"no search": {`DROP INDEX book_search_text_trgm`, "warning search: book.search_text has no trigram index"},
		"full pages": {
			`ALTER TABLE cumulative_mbti_score RESET (fillfactor)`, "warning fillfactor: cumulative_mbti_score: full pages",
		},
		"privilege": {
			`REVOKE UPDATE ON genre_score FROM aggregator_daemon; REVOKE DELETE ON aggregator.lease FROM aggregator_daemon`,
			"problem privileges: the role may not UPDATE on genre_score, DELETE on aggregator.lease",
		},
		"column": {
			`REVOKE SELECT (id) ON child_profile FROM aggregator_daemon`,
			"problem privileges: the role may not SELECT (id) on child_profile",
		},
		"table": {`DROP TABLE favorite_topic`, "problem tables: there is no table favorite_topic"},
		"old schema": {
			`DELETE FROM aggregator.schema_migrations WHERE version_id = (SELECT max(version_id) FROM ` +
				`aggregator.schema_migrations)`, "problem schema: ",
		},
		"limit": {
			`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 5', current_database()); END $$`,
			"problem connections: the service uses 10, and the limit of the database leaves 5",
		},
		"a run of the future": {
			`INSERT INTO aggregator.run (key, kind, host, version, due_at, started_at, seen_at, read, applied, dead, ` +
				`profiles, chunks) VALUES ('k', 'drain', 'h', 'v', '2999-01-01', now(), now(), 0, 0, 0, 0, 0)`,
			"warning times: there are rows with future times: runs up to 2999-01-01T00:00:00Z",
		},
		"leases of the future": {
			`INSERT INTO aggregator.lease VALUES ('s', 'h', now(), now() + interval '1 hour'), ('t', 'h', now(), '2999-01-01')`,
			"warning times: there are rows with future times: leases up to 2999-01-01T00:00:00Z",
		},
		"read-only": {`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', ` +
			`current_database()); END $$`, "problem role: its transactions are read-only"},
		"new schema": {
			`INSERT INTO aggregator.schema_migrations (version_id, is_applied) VALUES (999, true)`,
			"problem schema: ",
		},
		"compatible": {`INSERT INTO aggregator.schema_migrations (version_id, is_applied) VALUES (999, true); INSERT INTO ` +
			`aggregator.schema_compatibility VALUES (999, 1)`, "warning schema: version 999, this program was built for "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := testenv.Database(t)
			if tc.fault != "" {
				exec(t, u, tc.fault)
			}
			requireFinding(t, open(t, testenv.As(t, u, "aggregator_daemon"), false), tc.want)
		})
	}
}

func TestPooler(t *testing.T) {
	t.Parallel()
	u := testenv.Database(t)
	bouncer := testenv.NewPgBouncer(t, u, "ignore_startup_parameters = extra_float_digits").Before(t, u)
	_, err := postgres.Open(t.Context(), postgres.Options{URL: bouncer})
	finding, is := doctor.Refused(err)
	require.True(t, is)
	require.Equal(t, doctor.Problem, finding.Verdict)

	// One that passes settings on, as far as it goes.
	exec(t, u, `DO $$ BEGIN EXECUTE format('ALTER ROLE aggregator_daemon IN DATABASE %I SET aggregator.session = own', `+
		`current_database()); END $$`)
	passing := testenv.NewPgBouncer(
		t, u, "ignore_startup_parameters = synchronous_commit, lock_timeout, statement_timeout, "+
			"idle_in_transaction_session_timeout, plan_cache_mode, enable_seqscan, enable_bitmapscan, enable_hashjoin, "+
			"enable_mergejoin, jit, row_security, default_transaction_isolation, "+
			"search_path, aggregator.session").Before(t, u)
	requireFinding(t, open(t, testenv.As(t, passing, "aggregator_daemon"), false),
		"problem pooler: one connection was given several sessions")

	// Told of it, but logged in as a role that has not its settings.
	requireFinding(t, open(t, bouncer, true), "warning session: lock_timeout is 0")
}
