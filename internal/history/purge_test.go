package history_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/history"
	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

const day = 24 * time.Hour

// purgeWorld has a superuser's connections, and those of the role that purges.
type purgeWorld struct {
	*testing.T
	all, purge *pgxpool.Pool
}

func newPurgeWorld(t *testing.T) *purgeWorld {
	t.Helper()
	t.Parallel()
	url := testenv.Database(t)
	open := func(url string) *pgxpool.Pool {
		pool, err := postgres.Open(t.Context(), postgres.Options{URL: url, MaxConns: 8})
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		return pool
	}
	return &purgeWorld{t, open(url), open(testenv.As(t, url, "aggregator_purge"))}
}

// fill makes rows 1 to n, each of a profile of up to ten, with two favourite genres and
// topics. deleted is a condition on the number i of a row.
func (w *purgeWorld) fill(n int, deleted string, ago time.Duration) {
	w.Helper()
	exec(w.T, w.all, `INSERT INTO child_personality_history (id, child_profile_id, created_at, is_deleted, deleted_at)
		SELECT i, i % 10, now() - interval '1 year', `+deleted+`, CASE WHEN `+deleted+
		` THEN now() - $2::interval - i * interval '1 second' END
		FROM generate_series(1, $1::int) i`, n, ago)
	for _, kind := range []string{"genre", "topic"} {
		exec(w.T, w.all, `INSERT INTO favorite_`+kind+
			` SELECT child_profile_id, id, f FROM child_personality_history, generate_series(1, 2) f ON CONFLICT DO NOTHING`)
	}
}

// ids are the rows that are there. Favourites of none must be gone, and those of all be there.
func (w *purgeWorld) ids() []int64 {
	w.Helper()
	rows, _ := w.all.Query(w.Context(), `SELECT id FROM child_personality_history ORDER BY id`)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	require.NoError(w, err)
	for _, kind := range []string{"genre", "topic"} {
		var half int
		require.NoError(w, w.all.QueryRow(w.Context(), `SELECT count(*) FROM
			(SELECT history_id, count(*) AS n FROM favorite_`+kind+` GROUP BY history_id) f
			FULL JOIN child_personality_history h ON h.id = f.history_id WHERE h.id IS NULL OR f.n IS DISTINCT FROM 2`).Scan(
			&half))
		require.Zero(w, half, "rows of history without all their favourites, or favourites without a row")
	}
	return ids
}

func (w *purgeWorld) do(o history.PurgeOptions) history.PurgeResult {
	w.Helper()
	result, err := history.Purge(w.Context(), w.purge, o)
	require.NoError(w, err)
	return result
}

func TestPurge(t *testing.T) {
	w := newPurgeWorld(t)
	const n = 5000
	w.fill(n, `i % 2 = 0`, 40*day)
	exec(t, w.all, `UPDATE child_personality_history SET deleted_at = now() - interval '29 days' WHERE id = 2`)
	exec(t, w.all, `UPDATE child_personality_history SET deleted_at = NULL WHERE id = 4`)
	exec(t, w.all, `UPDATE child_personality_history SET deleted_at = '-infinity' WHERE id = 6`)
	// This row has a time of deletion, but is not deleted.
	exec(t, w.all, `UPDATE child_personality_history SET deleted_at = now() - interval '50 days' WHERE id = 7`)
	want := []int64{1, 2, 3, 4}
	for id := int64(5); id < n; id += 2 {
		want = append(want, id)
	}

	counted := w.do(history.PurgeOptions{OlderThan: 30 * day, DryRun: true})
	require.Len(t, w.ids(), n, "a dry run removes nothing")
	var seen []history.PurgeResult
	done := w.do(history.PurgeOptions{
		OlderThan: 30 * day, Progress: func(r history.PurgeResult) { seen = append(seen, r) },
	})
	assert.Equal(t, want, w.ids())
	assert.EqualValues(t, n/2-2, done.Deleted)
	assert.Equal(t, 2*done.Deleted, done.Genres)
	assert.Equal(t, 2*done.Deleted, done.Topics)
	assert.EqualValues(t, 3, done.Batches)
	assert.False(t, done.Left)
	assert.Equal(t, done, seen[len(seen)-1])
	counted.Busy, done.Busy = 0, 0
	assert.Equal(t, done, counted, "a dry run counts what a purge removes")

	again := w.do(history.PurgeOptions{OlderThan: 30 * day})
	assert.Zero(t, again.Deleted)
	n0, err := history.CountDeleted(t.Context(), w.purge, 0)
	require.NoError(t, err)
	assert.EqualValues(t, 1, n0)
	assert.EqualValues(t, 1, w.do(history.PurgeOptions{}).Deleted, "of no age at all")
}

// The application's own tables may have foreign keys.
func TestPurgeWithForeignKeys(t *testing.T) {
	w := newPurgeWorld(t)
	w.fill(20, `i % 2 = 0`, 40*day)
	for _, kind := range []string{"genre", "topic"} {
		exec(t, w.all, `ALTER TABLE favorite_`+kind+
			` ADD FOREIGN KEY (child_profile_id, history_id) REFERENCES child_personality_history (child_profile_id, id)`)
	}
	assert.EqualValues(t, 10, w.do(history.PurgeOptions{OlderThan: day}).Deleted)
	w.ids()
}

func TestPurgeRefuses(t *testing.T) {
	w := newPurgeWorld(t)
	w.fill(10, `true`, 40*day)
	_, err := history.Purge(t.Context(), w.purge, history.PurgeOptions{OlderThan: -time.Second})
	require.ErrorContains(t, err, "the age -1s is negative")
	exec(t, w.all, `DROP INDEX child_personality_history_deleted`)
	_, err = history.Purge(t.Context(), w.purge, history.PurgeOptions{})
	require.ErrorIs(t, err, postgres.ErrIndex)
	require.ErrorContains(t, err,
		"as the owner of the table run: CREATE INDEX CONCURRENTLY child_personality_history_deleted")
	require.Len(t, w.ids(), 10)
}

// A row that the application restores at the same moment stays, whoever comes first; one that
// it holds is not waited for.
func TestPurgeAgainstRestoring(t *testing.T) {
	w := newPurgeWorld(t)
	w.fill(10, `true`, 40*day)
	restoring, err := w.all.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = restoring.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = restoring.Exec(t.Context(),
		`UPDATE child_personality_history SET is_deleted = false, deleted_at = NULL WHERE id IN (3, 4)`)
	require.NoError(t, err)
	assert.EqualValues(t, 8, w.do(history.PurgeOptions{OlderThan: day}).Deleted)
	require.NoError(t, restoring.Commit(t.Context()))
	assert.Equal(t, []int64{3, 4}, w.ids())
	assert.Zero(t, w.do(history.PurgeOptions{OlderThan: day}).Deleted)
	assert.Equal(t, []int64{3, 4}, w.ids())
}

// Stopped, it ends with the batch in hand, and says so.
func TestPurgeStopped(t *testing.T) {
	w := newPurgeWorld(t)
	const n = 3000
	w.fill(n, `true`, 40*day)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done, err := history.Purge(
		ctx, w.purge, history.PurgeOptions{OlderThan: day, Progress: func(history.PurgeResult) { cancel() }})
	require.NoError(t, err)
	assert.True(t, done.Left)
	assert.EqualValues(t, 1, done.Batches)
	assert.Len(t, w.ids(), n-int(done.Deleted))

	done = w.do(history.PurgeOptions{OlderThan: day, MaxDuration: time.Nanosecond})
	assert.True(t, done.Left)
	assert.Zero(t, done.Deleted)
	done = w.do(history.PurgeOptions{OlderThan: day, MaxDuration: time.Hour})
	assert.False(t, done.Left)
	assert.Empty(t, w.ids())
}

// Several at once remove each row once, and none fails.
func TestPurgesAtOnce(t *testing.T) {
	w := newPurgeWorld(t)
	const n = 5000
	w.fill(n, `i % 5 > 0`, 40*day)
	results := make(chan history.PurgeResult)
	errs := make(chan error)
	for range 3 {
		go func() {
			r, err := history.Purge(t.Context(), w.purge,
				history.PurgeOptions{OlderThan: day, Retention: history.Retention{AllDays: 30, DailyDays: 90}})
			errs <- err
			results <- r
		}()
	}
	var deleted, thinned int64
	for range 3 {
		require.NoError(t, <-errs)
		r := <-results
		deleted += r.Deleted
		thinned += r.Thinned
	}
	left := w.do(history.PurgeOptions{OlderThan: day}) // what one held while another passed over it
	assert.EqualValues(t, n*4/5, deleted+left.Deleted)
	assert.EqualValues(t, n/5-2, thinned, "the newest of each profile with rows is left")
	assert.Len(t, w.ids(), 2)
}

// Cut off in the middle of a batch by the server, it has removed whole batches only.
func TestPurgeCutOff(t *testing.T) {
	w := newPurgeWorld(t)
	const n = 4000
	w.fill(n, `true`, 40*day)
	exec(t, w.all, `CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN IF OLD.history_id = 1500 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN OLD; END $$`)
	exec(t, w.all, `CREATE TRIGGER cut BEFORE DELETE ON favorite_topic FOR EACH ROW EXECUTE FUNCTION cut()`)
	exec(t, w.all, `ALTER FUNCTION cut() SECURITY DEFINER`)
	done, err := history.Purge(t.Context(), w.purge, history.PurgeOptions{OlderThan: day})
	require.Error(t, err)
	assert.Len(t, w.ids(), n-int(done.Deleted))
	assert.EqualValues(t, 2000, done.Deleted)
	exec(t, w.all, `DROP TRIGGER cut ON favorite_topic`)
	w.do(history.PurgeOptions{OlderThan: day})
	assert.Empty(t, w.ids())
}

// Somebody who holds a favourite for a moment is waited for; a deadlock with the application
// is tried again.
func TestPurgeInTheWay(t *testing.T) {
	w := newPurgeWorld(t)
	w.fill(10, `true`, 40*day)
	exec(t, w.all, `CREATE SEQUENCE tried`)
	exec(t, w.all, `GRANT USAGE ON tried TO aggregator_purge`)
	exec(t, w.all, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN IF nextval('tried') <= 2 THEN RAISE 'deadlock' USING ERRCODE = '40P01'; END IF; RETURN OLD; END $$`)
	exec(t, w.all, `CREATE TRIGGER refuse BEFORE DELETE ON favorite_genre FOR EACH ROW EXECUTE FUNCTION refuse()`)
	assert.EqualValues(t, 10, w.do(history.PurgeOptions{OlderThan: day}).Deleted)
	assert.Empty(t, w.ids())

	w.fill(10, `true`, 40*day)
	exec(t, w.all, `CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no' USING `+
		`ERRCODE = '23514'; END $$`)
	_, err := history.Purge(t.Context(), w.purge, history.PurgeOptions{OlderThan: day})
	require.ErrorContains(t, err, "purging: ")
	require.Len(t, w.ids(), 10)
}

// Snapshots that are written meanwhile are all there in the end.
func TestPurgeBesideTheDrain(t *testing.T) {
	w := newPurgeWorld(t)
	exec(t, w.all, `INSERT INTO child_profile (id, name) SELECT i, 'c' FROM generate_series(1, 9) i`)
	w.fill(5000, `i % 2 = 0`, 40*day)
	exec(t, w.all, `SELECT setval(pg_get_serial_sequence('child_personality_history', 'id'), 10000)`)
	purged := make(chan history.PurgeResult, 1)
	go func() {
		done, err := history.Purge(t.Context(), w.purge, history.PurgeOptions{OlderThan: day})
		assert.NoError(t, err)
		purged <- done
	}()
	const snapshots = 200
	for i := range snapshots {
		snapshot(t, w.all, int64(1+i%9))
	}
	done := <-purged
	assert.EqualValues(t, 2500, done.Deleted)
	var old, fresh int
	require.NoError(t, w.all.QueryRow(
		t.Context(), `SELECT count(*) FILTER (WHERE id <= 5000), count(*) FILTER (WHERE id > 10000) FROM `+
			`child_personality_history`).Scan(&old, &fresh))
	assert.Equal(t, []int{2500, snapshots}, []int{old, fresh})
}
