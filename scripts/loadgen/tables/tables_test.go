package tables

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	db, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close(context.WithoutCancel(t.Context()))) })
	return db
}

// texts returns the one column of a query.
func texts(t *testing.T, db *pgx.Conn, query string) []string {
	t.Helper()
	rows, err := db.Query(t.Context(), query)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return all
}

func tablesIn(t *testing.T, db *pgx.Conn, schema string) []string {
	t.Helper()
	return texts(t, db, "SELECT tablename::text FROM pg_tables WHERE schemaname = '"+schema+"'")
}

// What makes the origin's tables hard to adopt is there: each line names a column or a constraint that
// our own tables have not, or have otherwise.
func TestTheOriginsTables(t *testing.T) {
	db := connect(t, testenv.EmptyDatabase(t))
	require.NoError(t, Create(t.Context(), db))

	columns := texts(t, db, `SELECT c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
			|| CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
			|| CASE WHEN a.attidentity = 'd' THEN ' identity' WHEN a.atthasdef THEN ' default' ELSE '' END
		FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0`)
	require.Len(t, columns, 75)
	for _, table := range append(Origin.Filled(), "mbti") {
		require.Contains(t, columns, table+".id bigint not null identity")
	}
	for _, want := range []string{
		"book.title character varying(255)",
		"genre_score.score double precision not null",
		"genre_score.child_profile_id bigint",
		"cumulativembtiscore.p_score double precision not null",
		"mbtiscore.mbti_id bigint",
		"child_personality_history.created_at timestamp(6) without time zone",
		"child_personality_history.is_deleted boolean not null",
		"child_personality_history.history_created_type smallint",
		"favorite_genre.history_id bigint",
	} {
		require.Contains(t, columns, want)
	}
	for _, column := range columns {
		require.NotContains(t, column, "favorite_genre.child_profile_id")
		require.NotContains(t, column, "search_text")
	}

	constraints := texts(t, db, `SELECT conrelid::regclass || ': ' || pg_get_constraintdef(oid) FROM pg_constraint
		WHERE connamespace = 'public'::regnamespace AND contype IN ('f', 'u', 'c')`)
	require.Len(t, constraints, 20)
	for _, want := range []string{
		"cumulativembtiscore: UNIQUE (child_profile_id)",
		"child_personality_history: UNIQUE (mbti_score_id)",
		"child_personality_history: FOREIGN KEY (mbti_score_id) REFERENCES mbtiscore(id)",
		"favorite_topic: FOREIGN KEY (history_id) REFERENCES child_personality_history(id)",
	} {
		require.Contains(t, constraints, want)
	}
	require.Equal(t, []string{"16"}, texts(t, db, "SELECT count(DISTINCT mbti)::text FROM mbti"))
}

func TestTablesThatAreThereStay(t *testing.T) {
	db := connect(t, testenv.EmptyDatabase(t))
	_, err := db.Exec(t.Context(), "CREATE TABLE topic (id bigint)")
	require.NoError(t, err)
	require.ErrorIs(t, Create(t.Context(), db), ErrThere)
	require.Equal(t, []string{"topic"}, tablesIn(t, db, "public"))
}

// Elsewhere on the server there may be tables of the same names: the first schema alone counts.
func TestTheFirstSchemaOfTheSearchPath(t *testing.T) {
	url := testenv.EmptyDatabase(t)
	db := connect(t, url)
	_, err := db.Exec(t.Context(), `CREATE TABLE topic (id bigint);
		CREATE SCHEMA "the app"; SET search_path = "the app", public`)
	require.NoError(t, err)
	require.NoError(t, Create(t.Context(), db))
	created := tablesIn(t, db, "the app")
	require.ElementsMatch(t, append(Origin.Filled(), "mbti"), created)
	require.Equal(t, []string{"topic"}, tablesIn(t, db, "public"))
}

func TestKinds(t *testing.T) {
	for _, kind := range []Kind{"", Own, Origin} {
		require.NoError(t, kind.Check())
	}
	require.ErrorContains(t, Kind("mine").Check(), `unknown tables "mine": own or origin`)
	require.Equal(t, Own.Filled(), Kind("").Filled())
	require.Equal(t, "book_mbti", Own.From("book_mbti"))
	require.Equal(t, "bookmbti", Origin.From("book_mbti"))
	require.Equal(t, "genre_score", Origin.From("genre_score"))
	require.True(t, strings.HasPrefix(Origin.From("child_personality_history"), "(SELECT"))
	require.Equal(t, "child_personality_history", Origin.Name("child_personality_history"))
}
