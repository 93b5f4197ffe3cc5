//go:build faults

package faults_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// TestPurgeKilledAtRandom kills purges and the daemon beside them again and again, while the
// application restores some of the rows that are due: in the end those are there, and of
// the others neither a row nor a favourite, and the drain has missed nothing.
func TestPurgeKilledAtRandom(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	db, err := pgx.Connect(t.Context(), w.database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close(t.Context()) })
	ids := func(sql string, args ...any) []int64 {
		rows, _ := db.Query(t.Context(), sql, args...)
		list, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		require.NoError(t, err)
		return list
	}
	// Of each profile: diagnoses, nine of ten deleted long ago; and imported rows of one day long
	// ago, all but the last of which are to be thinned out.
	const first, end, imported = 1_000_001, 1_060_001, 1_030_001
	ids(`WITH rows AS (
			INSERT INTO child_personality_history (id, child_profile_id, created_at, history_created_type, is_deleted,
				deleted_at)
			SELECT i, 1 + i % $4, '2020-02-02', CASE WHEN i < $2 THEN 'DIAGNOSIS' ELSE 'IMPORT' END,
				i < $2 AND i % 10 > 0, CASE WHEN i < $2
					AND i % 10 > 0 THEN now() - interval '40 days' - random() * interval '1 year' END
			FROM generate_series($1::bigint, $3 - 1) i RETURNING id, child_profile_id
		), genres AS (INSERT INTO favorite_genre SELECT child_profile_id, id, 1 FROM rows
		), topics AS (INSERT INTO favorite_topic SELECT child_profile_id, id, 1 FROM rows)
		SELECT setval(pg_get_serial_sequence('child_personality_history', 'id'), $3)`, first, imported, end, profiles)
	want := map[int64]bool{}
	for _, id := range ids(`SELECT id FROM child_personality_history WHERE NOT is_deleted AND id >= $1 AND id < $2
		UNION ALL SELECT max(id) FROM child_personality_history WHERE id >= $2 GROUP BY child_profile_id`, first, imported) {
		want[id] = true
	}
	purge := func() *daemon {
		return w.start("purge", "AGGREGATOR_POSTGRES_URL="+testenv.As(t, w.database, "aggregator_purge"),
			"AGGREGATOR_RETENTION_ALL_DAYS=30", "AGGREGATOR_RETENTION_DAILY_DAYS=60")
	}

	pushed := w.load(700, 8*time.Second)
	unfinished := 0
	for range 12 {
		p, d := purge(), w.start("run")
		time.Sleep(100*time.Millisecond + rand.N(400*time.Millisecond)) // the fault
		for _, id := range ids(`UPDATE child_personality_history SET is_deleted = false, deleted_at = NULL
			WHERE id IN (SELECT id FROM child_personality_history WHERE is_deleted ORDER BY random() LIMIT 20) AND is_deleted
				RETURNING id`) {
			want[id] = true
		}
		if p.running() {
			unfinished++
		}
		p.kill()
		d.kill()
		_, err := db.Exec(t.Context(), `DELETE FROM aggregator.lease`) // else the next one waits for it to run out
		require.NoError(t, err)
	}
	pushed()
	require.Positive(t, unfinished, "no purge was killed in the midst of its work")
	last := purge()
	require.Zero(t, last.wait(), "%s", last.tail())
	require.Zero(t, purge().wait())

	left := ids(`SELECT id FROM child_personality_history WHERE id >= $1 AND id < $2`, first, end)
	for _, id := range left {
		require.True(t, want[id], "row %d is still there", id)
	}
	require.Len(t, left, len(want), "rows are gone that were restored, or are the last of their month")
	for _, favourites := range []string{"favorite_genre", "favorite_topic"} {
		found := map[int64]bool{}
		for _, id := range ids(`SELECT history_id FROM `+favourites+` WHERE history_id >= $1 AND history_id < $2`, first,
			end) {
			found[id] = true
		}
		require.Equal(t, want, found, "a %s of each row that is there, and of no other", favourites)
	}
	// The independent sum knows nothing of them.
	for table, id := range map[string]string{
		"child_personality_history": "id", "favorite_genre": "history_id", "favorite_topic": "history_id",
	} {
		_, err := db.Exec(t.Context(), fmt.Sprintf(`DELETE FROM %s WHERE %s >= $1 AND %[2]s < $2`, table, id), first, end)
		require.NoError(t, err)
	}
	w.finish()
}
