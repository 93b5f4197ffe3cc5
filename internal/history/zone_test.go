package history

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

// inSeoul is a database whose application lives in Seoul, and writes times without a zone.
func inSeoul(t *testing.T) *pgxpool.Pool {
	t.Helper()
	url := testenv.Database(t)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	for _, sql := range []string{
		`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = ''Asia/Seoul''', current_database()); END $$`,
		`ALTER TABLE child_personality_history ALTER created_at TYPE timestamp, ALTER deleted_at TYPE timestamp`,
		`INSERT INTO child_profile (id, name) VALUES (1, 'c')`,
	} {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: url, MaxConns: 2})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func write(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	types, err := ReadTypes(t.Context(), pool)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `SELECT aggregator.apply(1, 's', 0, 0, 0, NULL, NULL, 0, true, false, $1, false, false,
		0, 0, 0, 0, 0, 0, 0, 0, '{}', '{}', '{}', '{}')`, types[:])
	require.NoError(t, err)
}

func inWords(t time.Time) string { return t.Format("2006-01-02 15:04:05") }

// The application and we write the same wall clock, and read the same moments from it.
func TestTimesWithoutZone(t *testing.T) {
	t.Parallel()
	pool := inSeoul(t)
	seoul, err := time.LoadLocation("Asia/Seoul")
	require.NoError(t, err)
	diagnosed := time.Now().Add(-time.Hour).Truncate(time.Second)
	_, err = pool.Exec(t.Context(),
		`INSERT INTO child_personality_history (child_profile_id, created_at, history_created_type)
		VALUES (1, $1::text::timestamp, 'DIAGNOSIS')`, inWords(diagnosed.In(seoul)))
	require.NoError(t, err)
	before := time.Now()
	write(t, pool)
	var stored string
	require.NoError(t, pool.QueryRow(
		t.Context(), `SELECT created_at::text FROM child_personality_history ORDER BY created_at DESC LIMIT 1`).Scan(&stored))
	wall, err := time.ParseInLocation("2006-01-02 15:04:05", stored, seoul)
	require.NoError(t, err)
	assert.WithinDuration(t, before, wall, time.Minute)

	all, err := Timeline(t.Context(), pool, 1, Selection{Limit: 10})
	require.NoError(t, err)
	require.Len(t, all, 2)
	assert.Equal(t, []string{"FEEDBACK", "DIAGNOSIS"}, []string{all[0].Cause, all[1].Cause})
	assert.True(t, all[0].Created.Equal(wall), "%s, not %s", all[0].Created, wall)
	assert.True(t, all[1].Created.Equal(diagnosed), "%s, not %s", all[1].Created, diagnosed)
	for after, want := range map[time.Duration]int{0: 0, time.Second: 1, 30 * time.Minute: 1, 2 * time.Hour: 2} {
		found, err := Timeline(t.Context(), pool, 1, Selection{Limit: 10, Before: diagnosed.Add(after)})
		require.NoError(t, err)
		assert.Len(t, found, want, after)
	}
}

// A purge goes by moments: what was deleted a minute too late by the wall clock of Seoul stays.
func TestPurgeTimesWithoutZone(t *testing.T) {
	t.Parallel()
	pool := inSeoul(t)
	seoul, err := time.LoadLocation("Asia/Seoul")
	require.NoError(t, err)
	now := time.Now()
	for i, ago := range []time.Duration{
		25 * time.Hour, 24*time.Hour + time.Minute, 24*time.Hour - time.Minute, 16 * time.Hour,
	} {
		_, err := pool.Exec(t.Context(),
			`INSERT INTO child_personality_history (id, child_profile_id, created_at, is_deleted, deleted_at)
			VALUES ($1, 1, $2::text::timestamp, true, $2::text::timestamp)`, i+1, inWords(now.Add(-ago).In(seoul)))
		require.NoError(t, err)
	}
	count, err := CountDeleted(t.Context(), pool, 24*time.Hour)
	require.NoError(t, err)
	assert.EqualValues(t, 2, count)
	done, err := Purge(t.Context(), pool, PurgeOptions{OlderThan: 24 * time.Hour})
	require.NoError(t, err)
	assert.EqualValues(t, 2, done.Deleted)
	var left []int64
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT array_agg(id ORDER BY id) FROM child_personality_history`).Scan(
		&left))
	assert.Equal(t, []int64{3, 4}, left)
}

// Days are those of UTC, also where the columns have the wall clock of Seoul, nine hours ahead.
func TestThinTimesWithoutZone(t *testing.T) {
	t.Parallel()
	pool := inSeoul(t)
	day := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -40)
	seoul, err := time.LoadLocation("Asia/Seoul")
	require.NoError(t, err)
	for i, hours := range []int{10, 14, 16, 23, 24, 200} { // in Seoul a day begins at 15:00 of UTC
		at := day.Add(time.Duration(hours) * time.Hour)
		_, err := pool.Exec(t.Context(), `INSERT INTO child_personality_history (id, child_profile_id, created_at)
			VALUES ($1, 1, $2::text::timestamp)`, i+1, inWords(at.In(seoul)))
		require.NoError(t, err)
	}
	done, err := Purge(t.Context(), pool,
		PurgeOptions{OlderThan: time.Hour, Retention: Retention{AllDays: 30, DailyDays: 90}})
	require.NoError(t, err)
	assert.EqualValues(t, 3, done.Thinned)
	var left []int64
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT array_agg(id ORDER BY id) FROM child_personality_history`).Scan(
		&left))
	assert.Equal(t, []int64{4, 5, 6}, left)
}

// The index serves columns with a zone and without.
func TestPurgePlansWithoutZone(t *testing.T) {
	t.Parallel()
	pool := inSeoul(t)
	for name, c := range map[string][2]string{
		"purge":   {purgeDeleted, `now(), '-infinity', 0, 0, 1000`},
		"dry run": {countDeleted, `now(), '-infinity', 0, 0, 1000`},
	} {
		plan := strings.Join(explainPlan(t, pool, c[0], c[1]), "\n")
		assert.Contains(t, plan, "using child_personality_history_deleted on", name)
		assert.Contains(t, plan, "Index Cond: ((deleted_at < $1) AND (ROW(deleted_at, child_profile_id, id) > ROW($2, "+
			"$3, $4)))", name)
	}
}

// Favorites may have foreign keys of any kind, and all of it may be views with triggers: favorites go first.
func TestPurgeWithForeignKeysOfAnyKind(t *testing.T) {
	t.Parallel()
	const fill = `INSERT INTO child_personality_history (id, child_profile_id, created_at, is_deleted, deleted_at)
			SELECT i, 1, now() - interval '90 days', i % 2 = 0, CASE WHEN i % 2 = 0 THEN now() - interval '40 days' END
				FROM generate_series(1, 20) i;
		INSERT INTO favorite_genre SELECT 1, i, f FROM generate_series(1, 20) i, generate_series(1, 2) f;
		INSERT INTO favorite_topic SELECT 1, i, f FROM generate_series(1, 20) i, generate_series(1, 3) f;`
	for _, action := range []string{"NO ACTION", "RESTRICT"} {
		for _, views := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", action, views), func(t *testing.T) {
				t.Parallel()
				pool, err := postgres.Open(t.Context(), postgres.Options{URL: testenv.Database(t), MaxConns: 2})
				require.NoError(t, err)
				defer pool.Close()
				run := func(sql string) {
					_, err := pool.Exec(t.Context(), sql)
					require.NoError(t, err, sql)
				}
				run(fill)
				for _, kind := range []string{"genre", "topic"} {
					run(`ALTER TABLE favorite_` + kind + ` ADD FOREIGN KEY (child_profile_id, history_id)
						REFERENCES child_personality_history (child_profile_id, id) ON DELETE ` + action)
				}
				if views {
					for table, key := range map[string]string{
						"child_personality_history": "id = OLD.id",
						"favorite_genre":            "history_id = OLD.history_id AND genre_id = OLD.genre_id",
						"favorite_topic":            "history_id = OLD.history_id AND topic_id = OLD.topic_id",
					} {
						run(`ALTER TABLE ` + table + ` RENAME TO their_` + table)
						run(`CREATE VIEW ` + table + ` AS SELECT * FROM their_` + table)
						run(`CREATE FUNCTION remove_` + table + `() RETURNS trigger LANGUAGE plpgsql AS $$
							BEGIN DELETE FROM their_` + table + ` WHERE ` + key + `; RETURN OLD; END $$`)
						run(`CREATE TRIGGER remove INSTEAD OF DELETE ON ` + table + ` FOR EACH ROW EXECUTE FUNCTION remove_` + table +
							`()`)
					}
				}
				p := &purger{pool: pool, options: PurgeOptions{
					OlderThan: time.Hour, Now: time.Now, Retention: Retention{AllDays: 30, DailyDays: 60},
				}}
				require.NoError(t, p.purgeDeleted(t.Context()))
				assert.Equal(t, []int64{10, 20, 30}, []int64{p.result.Deleted, p.result.Genres, p.result.Topics})
				require.NoError(t, p.thin(t.Context()))
				assert.Equal(t, []int64{9, 38, 57}, []int64{p.result.Thinned, p.result.Genres, p.result.Topics})
				var left []int64
				require.NoError(t, pool.QueryRow(t.Context(), `SELECT array_agg(DISTINCT history_id) FROM favorite_genre`).Scan(
					&left))
				assert.Equal(t, []int64{19}, left)
			})
		}
	}
}

// An enum need not have the kind DIAGNOSIS: then no row is one.
func TestThinKindsWithoutDiagnosis(t *testing.T) {
	t.Parallel()
	pool := inSeoul(t)
	_, err := pool.Exec(t.Context(), `CREATE TYPE kind AS ENUM ('FEEDBACK');
		ALTER TABLE child_personality_history ALTER history_created_type DROP DEFAULT;
		ALTER TABLE child_personality_history ALTER history_created_type TYPE kind USING 'FEEDBACK';
		INSERT INTO child_personality_history (child_profile_id, created_at, history_created_type)
		SELECT 1, '2020-01-01 12:00', 'FEEDBACK' FROM generate_series(1, 3)`)
	require.NoError(t, err)
	r, err := Purge(t.Context(), pool, PurgeOptions{OlderThan: time.Hour, Retention: Retention{AllDays: 1}})
	require.NoError(t, err)
	require.EqualValues(t, 2, r.Thinned)
}
