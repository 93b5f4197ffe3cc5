package postgres_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"aggregator/internal/appschema"
	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

const originTables = "../../scripts/loadgen/tables/origin.sql"

// createShape makes the tables of an application; "origin" are those of the load generator.
func createShape(t *testing.T, url, shape string) {
	t.Helper()
	if shape != "origin" {
		require.NoError(t, testenv.CreateShape(t.Context(), url, shape))
		return
	}
	text, err := os.ReadFile(originTables)
	require.NoError(t, err)
	mustExec(t, openPool(t, url), string(text))
}

// A migration makes each shape fit for a drain, changes nothing that was there, and is then done. A plan says before
// what it does, and its script does the same.
func TestMigrateShapes(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	for _, shape := range append(slices.Clone(testenv.Shapes), "origin") {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			byMigration, byScript := testenv.EmptyDatabase(t), testenv.EmptyDatabase(t)
			var before []string
			for _, u := range []string{byMigration, byScript} {
				createShape(t, u, shape)
				before = applicationOf(t, openPool(t, u))
			}
			o := postgres.Options{URL: byMigration}
			_, _, script := planOf(t, postgres.Options{URL: byScript})
			psql(t, byScript, script)

			require.NoError(t, postgres.Migrate(t.Context(), o))
			after := applicationOf(t, openPool(t, byMigration))
			require.Subset(t, after, before)
			require.Equal(t, after, applicationOf(t, openPool(t, byScript)))
			views := viewsOf(t, openPool(t, byMigration))
			require.Equal(t, shape == "monthly", len(views) == 0, "all its names and forms are ours")
			require.Equal(t, views, viewsOf(t, openPool(t, byScript)))

			for _, u := range []string{byMigration, byScript} {
				require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: u}))
				plan, printed, _ := planOf(t, postgres.Options{URL: u})
				require.Empty(t, plan.Parts, printed)
				require.Empty(t, plan.Schema.Missing())
				require.NoError(t, plan.Schema.Check(true))
			}
			require.Equal(t, after, applicationOf(t, openPool(t, byMigration)))
		})
	}
}

// applicationOf is all that is in the schemas of the application.
func applicationOf(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pool.Config().ConnString())
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `SET search_path = pg_catalog`) // names with their schemas
	require.NoError(t, err)
	rows, err := conn.Query(t.Context(), `
WITH theirs AS (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'app'))
SELECT format('%s %s %s', attrelid::regclass, attname, format_type(atttypid,
	atttypmod)) || ' ' || attnotnull || ' ' || attidentity::text
    || coalesce(' ' || pg_get_expr(adbin, adrelid), '')
FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid LEFT JOIN pg_attrdef d ON d.adrelid = attrelid
	AND d.adnum = attnum
WHERE c.relnamespace IN (TABLE theirs) AND c.relkind IN ('r', 'p', 'v') AND NOT attisdropped AND attnum > 0
UNION ALL SELECT pg_get_indexdef(i.indexrelid) || ' ' || i.indisvalid FROM pg_index i
	JOIN pg_class c ON c.oid = i.indrelid
WHERE c.relnamespace IN (TABLE theirs)
UNION ALL SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid <> 0
	AND connamespace IN (TABLE theirs)
UNION ALL SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT tgisinternal
	AND c.relnamespace IN (TABLE theirs)
ORDER BY 1`)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return slices.DeleteFunc(all, func(s string) bool { return strings.Contains(s, "book_search_text_trgm") })
}

func viewsOf(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(),
		`SELECT c.relname || ' ' || pg_get_viewdef(c.oid) || obj_description(c.oid) FROM pg_class c
WHERE c.relnamespace = to_regnamespace('aggregator_views') AND c.relkind = 'v' ORDER BY 1`)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return all
}

// What the owner alone may do is printed for the owner; once that is done, the rest goes on, with the rights of
// config/roles.sql.
func TestMigrateShapesAsAnotherRole(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	for _, shape := range append(slices.Clone(testenv.Shapes), "origin") {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			u := testenv.EmptyDatabase(t)
			createShape(t, u, shape)
			require.NoError(t, testenv.Grant(t.Context(), u))
			o := postgres.Options{URL: testenv.As(t, u, "aggregator_migrate")}
			err := postgres.Migrate(t.Context(), o)
			require.ErrorIs(t, err, appschema.ErrTables)
			_, statements, found := strings.Cut(err.Error(), "the owners of the tables must run this before: ")
			require.True(t, found, err)
			statements, _, _ = strings.Cut(statements, " (PostgreSQL at")
			for statement := range strings.SplitSeq(statements, "; ") {
				mustExec(t, openPool(t, u), statement)
			}
			require.NoError(t, postgres.Migrate(t.Context(), o))
			require.NoError(t, testenv.Grant(t.Context(), u))
			for _, role := range []string{"aggregator_daemon", "aggregator_purge", "aggregator_reader"} {
				pool, err := postgres.Open(t.Context(), postgres.Options{URL: testenv.As(t, u, role)})
				require.NoError(t, err)
				defer pool.Close()
				tables := appschema.Tables()
				if role == "aggregator_purge" {
					tables = tables[10:] // the history and its favorites
				}
				if role == "aggregator_daemon" {
					requireSequences(t, pool, shape)
				}
				for _, table := range slices.DeleteFunc(tables, func(name string) bool { return name == "child_profile" }) {
					_, err := pool.Exec(t.Context(), "SELECT * FROM "+table)
					require.NoError(t, err, "%s as %s", table, role)
				}
			}
		})
	}
}

// requireSequences requires that the role of a pool may use the sequences that it takes ids from, and no other.
func requireSequences(t *testing.T, pool *pgxpool.Pool, shape string) {
	t.Helper()
	var used []string
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT coalesce(array_agg(relname::text ORDER BY 1), '{}') FROM pg_class
		WHERE CASE WHEN relkind = 'S' THEN has_sequence_privilege(oid, 'USAGE') END`).Scan(&used))
	want := map[string][]string{"sequences": {
		"child_personality_history_seq", "cumulative_mbti_score_seq", "favoritegenre_seq", "favoritetopic_seq",
		"genrescore_seq", "topicscore_seq",
	}}
	require.ElementsMatch(t, want[shape], used)
	if shape == "sequences" {
		mustExec(t, pool, `INSERT INTO genre_score (child_profile_id, genre_id, score) VALUES (1, 1, 0)`)
	}
}

// What stands in the way of an adaptation is told with table, column and rows, and nothing is written.
func TestMigrateShapesRefused(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	for name, tc := range map[string]struct {
		shape, fault string
		want         []string
	}{
		"rows that are there twice": {
			"origin",
			`INSERT INTO child_profile (id, name) VALUES (1, 'a'), (2, 'b'); INSERT INTO genre (id, name) VALUES (7, 'g');
			INSERT INTO genre_score (score, child_profile_id, genre_id)
				VALUES (1, 1, 7), (2, 1, 7), (3, 2, 7), (4, NULL, 7), (5, NULL, 7)`,
			[]string{
				`"public"."genre_score" has several rows of the same ("child_profile_id", "genre_id")`,
				`1, 7 (2 rows); keep one`,
			},
		},
		"two tables of one name": {
			"origin", `CREATE TABLE cumulative_mbti_score (LIKE cumulativembtiscore)`,
			[]string{"cumulative_mbti_score could be each of cumulative_mbti_score, cumulativembtiscore"},
		},
		"an enum without the kind": {
			"inline", `ALTER TYPE app.history_kind RENAME VALUE 'FEEDBACK' TO 'SURVEY'`,
			[]string{"child_personality_history.history_created_type is an enum without the value FEEDBACK: DIAGNOSIS, " +
				"SURVEY, IMPORT"},
		},
		"a kind that is too short": {
			"monthly", `ALTER TABLE child_personality_history ALTER history_created_type TYPE varchar(4)`,
			[]string{"child_personality_history.history_created_type holds 4 characters only"},
		},
		"a column to fill": {
			"origin", `ALTER TABLE mbtiscore ADD version integer NOT NULL`,
			[]string{"mbti_score.version is NOT NULL and has no default"},
		},
		"scores of uuids": {
			"sequences", `ALTER TABLE genrescore ALTER "genreId" TYPE uuid USING NULL`,
			[]string{"genre_score.genre_id is of type uuid"},
		},
		"ids of an object mapper that are numeric": {
			"inline", `ALTER TABLE app.genre_score DROP CONSTRAINT genre_score_genre_id_fkey;
			ALTER TABLE app.genre_score ALTER genre_id TYPE numeric(19, 0)`,
			[]string{"genre_score.genre_id is of type numeric, and not an integer"},
		},
		"the type by its name in the history": {
			"inline", `ALTER TABLE app.child_personality_history DROP mbti_id, ADD mbti varchar(4)`,
			[]string{"child_personality_history.mbti_id is not there"},
		},
		"scores of the history as text": {
			"inline", `ALTER TABLE app.child_personality_history ALTER j_score TYPE text`,
			[]string{"child_personality_history.j_score is of type text, and not a number"},
		},
		"scores apart as text": {
			"origin", `ALTER TABLE mbtiscore ALTER p_score TYPE text`,
			[]string{"mbti_score.p_score is of type text, and not a number"},
		},
		"types in an enum": {
			"origin", `CREATE TYPE types AS ENUM ('INTJ', 'ENFP'); ALTER TABLE mbti ALTER mbti TYPE types USING 'INTJ'`,
			[]string{"mbti.mbti is of type types, and not a text"},
		},
		"a number that says whether a row is deleted": {
			"origin", `ALTER TABLE child_personality_history ALTER is_deleted TYPE smallint USING 0`,
			[]string{"child_personality_history.is_deleted is of type smallint, and not boolean"},
		},
		"a partition in place of its table": {
			"origin", `ALTER TABLE topic_score RENAME TO points; CREATE TABLE all_points (LIKE points)
			PARTITION BY LIST (topic_id); CREATE TABLE topic_score PARTITION OF all_points DEFAULT`,
			[]string{"topic_score is a partition of public.all_points, and not the whole table"},
		},
		"no sequence": {
			"sequences", `DROP SEQUENCE genrescore_seq`, []string{"genre_score.id is NOT NULL and has no default"},
		},
		"no primary key": {
			"sequences", `ALTER TABLE "childProfile" DROP CONSTRAINT "childProfile_pkey"`,
			[]string{"child_profile has no primary key and no other unique key on (id)"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := testenv.EmptyDatabase(t)
			createShape(t, u, tc.shape)
			mustExec(t, openPool(t, u), tc.fault)
			_, planned := postgres.PlanUp(t.Context(), postgres.Options{URL: u})
			for _, err := range []error{planned, postgres.Migrate(t.Context(), postgres.Options{URL: u})} {
				require.ErrorIs(t, err, appschema.ErrTables)
				for _, want := range tc.want {
					require.ErrorContains(t, err, want)
				}
			}
			var schemas int
			require.NoError(t, openPool(t, u).QueryRow(
				t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname ~ '^aggregator'`).Scan(&schemas))
			require.Zero(t, schemas)
		})
	}
}

// A trigger of the application that keeps a row out is noticed as on a table of ours: a row comes back only if it
// is there.
func TestMigrateShapeKeptOut(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"mbtiscore", "child_personality_history"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			u := testenv.EmptyDatabase(t)
			createShape(t, u, "origin")
			require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: u}))
			admin := openPool(t, u)
			const insert = `INSERT INTO aggregator_views.child_personality_history (child_profile_id, created_at,
				history_created_type, is_deleted, i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score)
				VALUES (1, now(), 'FEEDBACK', false, 0, 0, 0, 0, 0, 0, 0, 0) RETURNING id`
			var id *int64
			mustExec(t, admin, `INSERT INTO child_profile (id) VALUES (1)`)
			require.NoError(t, admin.QueryRow(t.Context(), insert).Scan(&id))
			require.NotNil(t, id)
			mustExec(t, admin, `CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
				CREATE TRIGGER keep_out BEFORE INSERT ON public.`+table+` FOR EACH ROW EXECUTE FUNCTION keep_out()`)
			require.ErrorIs(t, admin.QueryRow(t.Context(), insert).Scan(&id), pgx.ErrNoRows)
		})
	}
}

// A table that would not be found is named by its own name.
func TestMigrateNamedTable(t *testing.T) {
	t.Parallel()
	u := testenv.EmptyDatabase(t)
	createShape(t, u, "origin")
	mustExec(t, openPool(t, u),
		`ALTER TABLE genre_score RENAME TO "Points per Genre"; ALTER TABLE cumulativembtiscore RENAME TO letters`)
	o := postgres.Options{
		URL:    u,
		Tables: appschema.Names{"genre_score": "Points per Genre", "cumulative_mbti_score": "letters"},
	}
	require.NoError(t, postgres.Migrate(t.Context(), o))
	pool, err := postgres.Open(t.Context(), o)
	require.NoError(t, err)
	defer pool.Close()
	mustExec(t, pool, `INSERT INTO child_profile (id) VALUES (1); INSERT INTO genre (id) VALUES (1);
		INSERT INTO genre_score (child_profile_id, genre_id, score) VALUES (1, 1, 5)`)
	var score float64
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT score FROM public."Points per Genre"`).Scan(&score))
	require.InDelta(t, 5, score, 0)
	d, err := appschema.ReadCurrent(t.Context(), pool, o.Tables)
	require.NoError(t, err)
	require.NoError(t, d.Check(true))

	d, err = appschema.ReadCurrent(t.Context(), pool, nil) // the settings lost
	require.NoError(t, err)
	require.ErrorContains(t, d.Check(true), "there is no table genre_score, cumulative_mbti_score")
}

// When the application changes its tables, the views are told to be out of date, and the next migration makes them
// anew.
func TestMigrateChangedShape(t *testing.T) {
	t.Parallel()
	u := testenv.EmptyDatabase(t)
	createShape(t, u, "origin")
	o := postgres.Options{URL: u}
	require.NoError(t, postgres.Migrate(t.Context(), o))
	admin := openPool(t, u)
	check := func() error {
		d, err := appschema.ReadCurrent(t.Context(), admin, nil)
		require.NoError(t, err)
		return d.Check(true)
	}
	require.NoError(t, check())
	mustExec(t, admin, `ALTER TABLE public.bookmbti RENAME TO book_mbti; ALTER TABLE public.favorite_genre ADD `+
		`child_profile_id bigint`)
	require.ErrorContains(t, check(),
		"of schema aggregator_views are not there, or not as these tables need them: book_mbti, favorite_genre; run "+
			"aggregator migrate up")
	require.NoError(t, postgres.Migrate(t.Context(), o))
	require.NoError(t, check())
	var views []string
	require.NoError(t, admin.QueryRow(t.Context(), `SELECT array_agg(relname::text ORDER BY 1) FROM pg_class
		WHERE relnamespace = 'aggregator_views'::regnamespace AND relkind = 'v'`).Scan(&views))
	require.Equal(t, []string{"child_personality_history", "cumulative_mbti_score", "favorite_topic"}, views)
}
