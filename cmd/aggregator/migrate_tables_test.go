package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// Tables that no event can be applied to are told before anything is read or written.
func TestTablesRefused(t *testing.T) {
	s := newPair(t)
	s.push("1:1:LIKE")
	s.exec(
		`ALTER TABLE genre_score RENAME TO scores; CREATE VIEW genre_score AS SELECT *
			FROM scores; GRANT ALL ON genre_score TO aggregator_daemon;
		ALTER TABLE topic_score ADD version int NOT NULL`)
	const why = "the application's tables are not as they have to be (schema public): genre_score is a view: rows are " +
		"not locked in it, " +
		"and its changes do not come to the service's notice; topic_score.version is NOT NULL and has no default, and a " +
		"drain does not write it"
	for _, command := range [][]string{{"drain"}, {"run"}, {"drain", "--dry-run"}, {"dead", "retry", "--all-unsettled"}} {
		s.program(command...).requireFailure(t, exitFailed, why)
	}
	require.EqualValues(t, 1, s.redis.XLen(t.Context(), "book-like-events").Val())
	require.Zero(t, s.redis.Exists(t.Context(), "book-like-events:bookmark").Val())

	status := s.program("migrate", "status")
	require.Equal(t, exitFailed, status.code)
	require.Equal(t, "aggregator: "+why+"\n", status.stderr)
	require.Regexp(t, `(?m)^TABLE IN SCHEMA public +FOUND +ROWS +WHAT FOLLOWS$`, status.stdout)
	require.Regexp(t, `(?m)^genre_score +view +- +refused: genre_score is a view: .* -> `, status.stdout)
	require.Regexp(t, `(?m)^topic_score +table +- +refused: topic_score.version is NOT NULL`, status.stdout)
	require.Regexp(t, `(?m)^book +table +- +as needed$`, status.stdout)

	status = s.program("migrate", "status", "-o", "json")
	require.Equal(t, exitFailed, status.code)
	var document struct {
		Schema string
		Tables []tableState
	}
	require.NoError(t, json.Unmarshal([]byte(status.stdout), &document))
	require.Equal(t, "public", document.Schema)
	require.Len(t, document.Tables, 13)
	require.Equal(t, "genre_score", document.Tables[7].Table)
	require.Equal(t, "view", document.Tables[7].Found)
	require.Equal(t, "refused", document.Tables[7].Findings[0].Severity)

	doctor := s.program("doctor")
	require.Equal(t, exitFailed, doctor.code)
	require.Regexp(t, `(?m)^problem +PostgreSQL +tables +genre_score is a view`, doctor.stdout)
	require.Regexp(t, `(?m)^problem +PostgreSQL +tables +topic_score.version is NOT NULL`, doctor.stdout)

	s.exec(`DROP VIEW genre_score; ALTER TABLE scores RENAME TO genre_score; ALTER TABLE topic_score DROP version`)
	require.Zero(t, s.program("drain").code)
}

// Which schema is the application's must be clear, or be said.
func TestSchemaOfTheApplication(t *testing.T) {
	s := newPair(t)
	s.push("1:1:LIKE")
	s.exec(`CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO aggregator_daemon; CREATE TABLE app.book (id bigint)`)
	s.env[0] += "&search_path=app,public"
	for _, command := range [][]string{{"drain"}, {"status"}, {"migrate", "up"}} {
		r := s.program(command...)
		require.Equal(t, exitConfig, r.code, r.stderr)
		require.Contains(t, r.stderr,
			"tables of its names are in app (book) and public (book, book_mbti, and 11 more), all on the search_path; set "+
				"postgres.schema to the right one")
	}
	require.Contains(t, s.program("doctor").stdout, "tables of its names are in app (book) and public")
	s.env = append(s.env, "AGGREGATOR_POSTGRES_SCHEMA=public")
	require.Zero(t, s.program("drain").code)
	s.env = append(s.env, "AGGREGATOR_POSTGRES_SCHEMA=nowhere")
	s.program("drain").requireFailure(t, exitConfig, `there is no schema "nowhere", which postgres.schema names`)
	s.env = append(s.env, "AGGREGATOR_POSTGRES_SCHEMA=aggregator")
	s.program("drain").requireFailure(
		t, exitConfig, `postgres.schema = "aggregator" (env AGGREGATOR_POSTGRES_SCHEMA): want the name of a schema of the `+
			`application's`)
}

// The table of the scores of history rows is listed where the history has none. Tables that are not meant are named.
func TestMigrateStatusOfAnApplication(t *testing.T) {
	t.Parallel()
	database := testenv.EmptyDatabase(t)
	text, err := os.ReadFile("../../scripts/loadgen/tables/origin.sql")
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), string(text)+`;
		ALTER TABLE mbtiscore ADD version int NOT NULL; CREATE SCHEMA old; CREATE TABLE old.book (id bigint)`)
	require.NoError(t, err)
	status := program(t, []string{"AGGREGATOR_POSTGRES_URL=" + database}, "migrate", "status")
	require.Equal(t, exitFailed, status.code)
	require.Contains(t, status.stderr, "mbti_score.version is NOT NULL and has no default")
	require.Regexp(t, `(?m)^mbti_score +table +- +refused: mbti_score.version is NOT NULL`, status.stdout)
	require.Contains(t, status.stdout, "\nnot used are tables of the same names in other schemas: old.book\n")
}

// Through a pooler in transaction mode a drain finds the views by the search path of its role.
func TestDrainIntoAnApplicationThroughAPooler(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	database := testenv.EmptyDatabase(t)
	text, err := os.ReadFile("../../scripts/loadgen/tables/origin.sql")
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), string(text)+`; INSERT INTO child_profile (id) VALUES (1);
		INSERT INTO genre (id, name) VALUES (1, 'g'); INSERT INTO book (id, title, genre_id) VALUES (1, 'b', 1);
		INSERT INTO bookmbti (book_id, mbti_id) SELECT 1, id FROM mbti WHERE mbti = 'ESFP'`)
	require.NoError(t, err)
	program(t, []string{"AGGREGATOR_POSTGRES_URL=" + database}, "migrate", "up").requireDone(t)
	require.NoError(t, testenv.Grant(t.Context(), database))
	daemon := testenv.As(t, database, "aggregator_daemon")
	redisURL := testenv.Redis(t)
	options, err := redis.ParseURL(redisURL)
	require.NoError(t, err)
	client := redis.NewClient(options)
	defer client.Close()
	for range 3 {
		require.NoError(t, client.XAdd(t.Context(),
			&redis.XAddArgs{Stream: "book-like-events", Values: []any{"event", "1:1:LIKE"}}).Err())
	}
	program(t, []string{
		"AGGREGATOR_POSTGRES_URL=" + testenv.NewPgBouncer(t, daemon).Before(t, daemon),
		"AGGREGATOR_POSTGRES_POOLER=transaction", "AGGREGATOR_REDIS_URL=" + redisURL,
	}, "drain").requireDone(t)
	var genre, letter, kept float64
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT g.score, c.e_score, s.e_score FROM genre_score g,
		cumulativembtiscore c, mbtiscore s`).Scan(&genre, &letter, &kept))
	require.Equal(t, []float64{6, 6, 6}, []float64{genre, letter, kept})
}

func TestMigrateDryRun(t *testing.T) {
	t.Parallel()
	env := []string{"AGGREGATOR_POSTGRES_URL=" + testenv.EmptyDatabase(t)}
	dry := program(t, env, "migrate", "up", "--dry-run")
	dry.requireDone(t)
	require.Contains(t, dry.stdout,
		"schema aggregator; one transaction; undone by: DROP SCHEMA aggregator CASCADE, once no program needs it\n    "+
			"CREATE SCHEMA aggregator;\n        -- locks nothing that is there\n")
	require.True(t, strings.HasSuffix(dry.stdout, "\n0 of 13 tables of the application are in schema public\n"),
		dry.stdout)
	script := program(t, env, "migrate", "up", "--script")
	script.requireDone(t)
	require.Contains(t, script.stdout, "\nSET search_path = \"public\", \"aggregator_views\", \"pg_temp\";\n")
	require.Equal(t, []string{"pending"}, states(t, env))

	program(t, env, "migrate", "up").requireDone(t)
	dry = program(t, env, "migrate", "up", "--dry-run")
	dry.requireDone(t)
	require.Equal(t, "13 of 13 tables of the application are in schema public\n", dry.stdout)
}
