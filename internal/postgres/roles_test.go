package postgres_test

import (
	"os"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

const catalogue = `INSERT INTO genre (id, name) VALUES (1, 'g'); INSERT INTO topic (id, name) VALUES (1, 't');
	INSERT INTO book (id, title, genre_id) VALUES (1, 'b', 1); INSERT INTO child_profile (id, name) VALUES (1, 'Bori')`

// What each role may do, and what it may not. That the daemon may do all that it needs is
// shown by the tests of the aggregator, which run it as that role.
func TestRoles(t *testing.T) {
	t.Parallel()
	u := testenv.Database(t)
	mustExec(t, openPool(t, u), catalogue)
	const (
		readHistory  = `SELECT * FROM child_personality_history, favorite_genre, favorite_topic`
		writeHistory = `INSERT INTO child_personality_history (child_profile_id) VALUES (1)`
		writeScore   = `INSERT INTO genre_score VALUES (1, 1, 0) ON CONFLICT (child_profile_id, genre_id) DO UPDATE SET ` +
			`score = 1`
		readOurs = `SELECT * FROM aggregator.mark, aggregator.checkpoint, aggregator.dead_letter, aggregator.run,
			aggregator.schema_migrations, aggregator.schema_compatibility`
		writeRun = `INSERT INTO aggregator.run (key, kind, host, version, started_at, seen_at, read, applied, dead, profiles,
			chunks)
			VALUES (gen_random_uuid()::text, 'k', 'h', 'v', now(), now(), 0, 0, 0, 0, 0); UPDATE aggregator.run
				SET read = 1; DELETE FROM aggregator.run`
		readApp = `SELECT * FROM genre, topic, mbti, book, book_topic, book_mbti, genre_score, topic_score, ` +
			`cumulative_mbti_score`
	)
	for role, can := range map[string]struct{ may, mayNot []string }{
		"aggregator_daemon": {
			may: []string{
				readHistory, writeHistory, writeScore, readOurs, readApp,
				`SELECT id FROM child_profile`,
				`SELECT aggregator.require(true, '', '')`,
				`LISTEN aggregator_catalogue`,
				`DELETE FROM aggregator.lease`, `DELETE FROM aggregator.member`, writeRun,
				`UPDATE book SET search_text = 'x'`,
			},
			mayNot: []string{
				`SELECT name FROM child_profile`,
				`SELECT * FROM child_profile`,
				`UPDATE child_profile SET name = 'x'`,
				`DELETE FROM child_profile`,
				`INSERT INTO genre (name) VALUES ('x')`,
				`UPDATE book SET title = 'x'`,
				`DELETE FROM book`,
				`DELETE FROM book_topic`,
				`INSERT INTO mbti (mbti) VALUES ('XXXX')`,
				`UPDATE child_personality_history SET is_deleted = true`,
				`DELETE FROM child_personality_history`,
				`DELETE FROM favorite_genre`,
				`DELETE FROM genre_score`,
				`DELETE FROM aggregator.mark`,
				`DELETE FROM aggregator.checkpoint`,
				`TRUNCATE aggregator.dead_letter`,
				`TRUNCATE genre_score`,
				`INSERT INTO aggregator.schema_migrations (version_id, is_applied) VALUES (999, true)`,
				`UPDATE aggregator.schema_compatibility SET works_with = 0`,
				`INSERT INTO aggregator.schema_compatibility VALUES (999, 0)`,
				`DROP TABLE aggregator.mark`,
				`DROP TABLE genre_score`,
				`ALTER TABLE genre_score ADD x int`,
				`CREATE TABLE x ()`,
				`CREATE TABLE aggregator.x ()`,
				`CREATE SCHEMA x`,
				`CREATE TRIGGER x AFTER DELETE ON book EXECUTE FUNCTION aggregator.catalogue_changed('x')`,
				`CREATE ROLE x`,
				`SET ROLE aggregator_owner`,
				`COPY genre TO PROGRAM 'true'`,
			},
		},
		"aggregator_reader": {
			may: []string{readHistory, readOurs, readApp, `SELECT id FROM child_profile`},
			mayNot: []string{
				`SELECT name FROM child_profile`,
				`UPDATE book SET search_text = 'x'`,
				`` + writeScore,
				`` + writeHistory,
				`DELETE FROM aggregator.dead_letter`, `DELETE FROM aggregator.run`, `UPDATE aggregator.run SET read = 0`,
				`DELETE FROM aggregator.member`,
				`SELECT aggregator.require(true, '', '')`,
				`SET ROLE aggregator_daemon`,
			},
		},
		"aggregator_purge": {
			may: []string{
				`DELETE FROM favorite_genre`, `DELETE FROM favorite_topic`,
				`DELETE FROM child_personality_history WHERE is_deleted`, readHistory,
				`INSERT INTO aggregator.lease VALUES ('s', 'h', now(), now()); DELETE FROM aggregator.lease`, writeRun,
				`SELECT * FROM child_personality_history FOR UPDATE SKIP LOCKED`,
				`INSERT INTO aggregator.thinning (daily_before, monthly_before) VALUES (now(), now())`,
				`DELETE FROM aggregator.journal WHERE written_at < now()`, `UPDATE aggregator.dead_letter SET payload = ''`,
				`DELETE FROM aggregator.dead_letter WHERE settled_at < now()`,
				`INSERT INTO aggregator.dead_letter_removed VALUES ('x', 0)`,
				`UPDATE aggregator.dead_letter_removed SET removed = 1`,
			},
			mayNot: []string{
				writeHistory, writeScore, `UPDATE child_personality_history SET is_deleted = true`,
				`DELETE FROM genre_score`, `SELECT id FROM child_profile`, `DELETE FROM aggregator.mark`,
				`INSERT INTO aggregator.journal VALUES (1, 1, 's', now(), '{}', '{}')`,
			},
		},
		"aggregator_migrate": {
			may: []string{
				`CREATE TABLE aggregator.x (); DROP TABLE aggregator.x`,
				`ALTER TABLE aggregator.mark SET (fillfactor = 60)`,
			},
			mayNot: []string{
				`SELECT name FROM child_profile`, `DELETE FROM child_personality_history`, `UPDATE genre_score SET score = 0`,
				`DROP TABLE book`, `CREATE ROLE x`,
			},
		},
	} {
		t.Run(role, func(t *testing.T) {
			pool := openPool(t, testenv.As(t, u, role))
			for _, sql := range can.may {
				mustExec(t, pool, sql)
			}
			for _, sql := range can.mayNot {
				requireDenied(t, pool, sql)
			}
		})
	}
	t.Run("aggregator_owner", func(t *testing.T) {
		_, err := postgres.Open(t.Context(), postgres.Options{URL: testenv.As(t, u, "aggregator_owner")})
		require.ErrorContains(t, err, "not permitted to log in")
	})
}

// A daemon that purges by schedule is given the rights of the purge.
func TestRoleOfADaemonThatPurges(t *testing.T) {
	t.Parallel()
	server := testenv.NewPostgres(t)
	u := newDatabase(t, server, "app")
	require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: u}))
	require.NoError(t, testenv.Grant(t.Context(), u))
	const purge = `DELETE FROM child_personality_history; DELETE FROM favorite_genre; SELECT FROM ` +
		`child_personality_history FOR UPDATE`
	daemon := openPool(t, testenv.As(t, u, "aggregator_daemon"))
	requireDenied(t, daemon, purge)
	mustExec(t, openPool(t, u), `GRANT aggregator_purge TO aggregator_daemon`)
	mustExec(t, daemon, purge)
}

// The roles may come first: what the migration makes is the owner's, and covered, whether
// or not the file is run again.
func TestRolesBeforeMigration(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	server := testenv.NewPostgres(t)
	u := newDatabase(t, server, "app")
	require.NoError(t, testenv.Grant(t.Context(), u))
	require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: testenv.As(t, u, "aggregator_migrate")}))
	admin := openPool(t, u)
	requireOwned(t, admin, "aggregator")
	requireOwned(t, admin, "public")
	daemon := openPool(t, testenv.As(t, u, "aggregator_daemon"))
	_, err := postgres.CheckSchema(t.Context(), daemon)
	require.NoError(t, err)
	mustExec(t, daemon, `SELECT aggregator.require(true, '', ''); UPDATE aggregator.mark SET applied = 0`)
	requireDenied(t, daemon, `UPDATE aggregator.schema_compatibility SET works_with = 0`)

	require.NoError(t, testenv.Grant(t.Context(), u), "again")
	require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: testenv.As(t, u, "aggregator_migrate")}),
		"again")
	mustExec(t, daemon, `SELECT id FROM child_profile; UPDATE genre_score SET score = 0`)

	mustExec(t, openPool(t, testenv.As(t, u, "aggregator_migrate")),
		`CREATE TABLE aggregator.later (id int); CREATE FUNCTION aggregator.later() RETURNS int LANGUAGE sql AS 'SELECT 1'`)
	mustExec(t, daemon, `INSERT INTO aggregator.later VALUES (1); SELECT aggregator.later()`)
	requireDenied(t, daemon, `DELETE FROM aggregator.later`)
	reader := openPool(t, testenv.As(t, u, "aggregator_reader"))
	mustExec(t, reader, `SELECT * FROM aggregator.later`)
	requireDenied(t, reader, `SELECT aggregator.later()`)
}

// In production the application's tables are there and belong to somebody who is no
// superuser, and who runs the file. Its history takes numbers from a sequence.
func TestRolesOnTablesOfTheApplication(t *testing.T) {
	t.Parallel()
	server := testenv.NewPostgres(t)
	u := newDatabase(t, server, "app")
	admin := openPool(t, u)
	mustExec(t, admin, `CREATE ROLE app LOGIN CREATEROLE; ALTER DATABASE app OWNER TO app; ALTER SCHEMA public `+
		`OWNER TO app`)
	app := openPool(t, testenv.As(t, u, "app"))
	tables, err := os.ReadFile("migrations/00001_application_tables.sql")
	require.NoError(t, err)
	mustExec(t, app, string(tables))
	mustExec(t, app, catalogue)
	mustExec(t, app, `ALTER TABLE child_personality_history ALTER id DROP IDENTITY;
		CREATE SEQUENCE number OWNED BY child_personality_history.id;
		ALTER TABLE child_personality_history ALTER id SET DEFAULT nextval('number')`)

	require.NoError(t, testenv.Grant(t.Context(), testenv.As(t, u, "app")))
	require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: testenv.As(t, u, "aggregator_migrate")}))
	require.NoError(t, testenv.Grant(t.Context(), testenv.As(t, u, "app")), "again")

	requireOwned(t, admin, "aggregator")
	daemon := openPool(t, testenv.As(t, u, "aggregator_daemon"))
	mustExec(t, daemon, `INSERT INTO child_personality_history (child_profile_id) VALUES (1)`)
	requireDenied(t, daemon, `SELECT name FROM child_profile`)

	// The index to search books by is for the owner of the table to make.
	require.Equal(t, 0, searchIndexes(t, admin))
	mustExec(t, app, `CREATE EXTENSION IF NOT EXISTS pg_trgm; CREATE INDEX ON book USING gin (search_text gin_trgm_ops)`)
	require.Equal(t, 1, searchIndexes(t, admin))

	// The triggers are in place, and run for an application that knows nothing of us.
	conn, err := daemon.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), `LISTEN aggregator_catalogue`)
	require.NoError(t, err)
	mustExec(t, app, `DELETE FROM child_profile`)
	notice, err := conn.Conn().WaitForNotification(t.Context())
	require.NoError(t, err)
	require.Equal(t, "child_profile", notice.Payload)

	// What the migration needed in the application's tables can be taken back.
	mustExec(t, app, `REVOKE TRIGGER ON book, book_topic, book_mbti, child_profile FROM aggregator_owner;
		REVOKE INSERT ON mbti FROM aggregator_owner; REVOKE CREATE ON SCHEMA public FROM aggregator_owner`)
	require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: testenv.As(t, u, "aggregator_migrate")}))
}

func searchIndexes(t *testing.T, pool *pgxpool.Pool) (n int) {
	t.Helper()
	require.NoError(t, pool.QueryRow(
		t.Context(), `SELECT count(*) FROM pg_index i JOIN pg_opclass o ON o.oid = ANY (i.indclass::oid[])
		WHERE i.indrelid = 'public.book'::regclass AND o.opcname = 'gin_trgm_ops'`).Scan(&n))
	return n
}

// requireOwned finds everything in a schema to be aggregator_owner's.
func requireOwned(t *testing.T, pool *pgxpool.Pool, schema string) {
	t.Helper()
	var foreign []string
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT array(
		SELECT oid::regclass::text FROM pg_class WHERE relnamespace = $1::regnamespace
			AND relowner <> 'aggregator_owner'::regrole
		UNION ALL
		SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = $1::regnamespace
			AND proowner <> 'aggregator_owner'::regrole)`,
		schema).Scan(&foreign))
	require.Empty(t, foreign)
}

func requireDenied(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Conn().PgConn().Exec(t.Context(), sql).ReadAll()
	var pgErr *pgconn.PgError
	if assert.ErrorAs(t, err, &pgErr, sql) {
		assert.Equal(t, "42501", pgErr.Code, "%s: %s", sql, pgErr.Message)
	}
}

// mustExec runs statements, several at once if need be.
func mustExec(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Conn().PgConn().Exec(t.Context(), sql).ReadAll()
	require.NoError(t, err, sql)
}

func newDatabase(t *testing.T, server *testenv.PostgresServer, name string) string {
	t.Helper()
	u, err := server.CreateDatabase(t.Context(), name, "")
	require.NoError(t, err)
	return u
}
