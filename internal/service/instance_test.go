package service

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/config"
	"aggregator/internal/appschema"
	"aggregator/internal/cluster"
	"aggregator/internal/history"
	"aggregator/internal/postgres"
	"aggregator/internal/runs"
)

// Each instance has a name of its own, also in one process; with other settings it keeps it.
func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for range 5 { // of 65,536
		one := New(config.Default(), testLog(t), "v")
		require.Equal(t, 2, strings.Count(one.Name(), "/"), one.Name())
		require.Equal(t, one.Name(), one.with(config.Config{}).Name())
		seen[one.Name()] = true
	}
	require.Greater(t, len(seen), 1)
}

// A job by hand is done under its lease, and recorded with how it ended.
func TestByHand(t *testing.T) {
	w := newWorld(t)
	instance, _ := w.instance()
	pool, err := instance.OpenPostgres(t.Context(), 3)
	require.NoError(t, err)
	defer pool.Close()
	for kind, tc := range map[string]struct {
		outcome runs.Outcome
		err     error
	}{
		"well": {runs.Done, nil}, "limited": {runs.Limited, nil}, "badly": {runs.Failed, errors.New("it is broken")},
	} {
		record := runs.Job{Kind: kind, Counts: func() runs.Counts { return runs.Counts{Read: 3, Dead: 1} }}
		err := instance.ByHand(t.Context(), pool, record, func(ctx context.Context) (runs.Outcome, error) {
			held, err := cluster.Leases(ctx, pool)
			require.NoError(t, err)
			require.Len(t, held, 1)
			require.Equal(t, "job:"+kind, held[0].Source)
			require.Equal(t, instance.Name(), held[0].Holder)
			return tc.outcome, tc.err
		})
		require.Equal(t, tc.err, err)
		last := w.runs()[0]
		require.Equal(t, kind, last.Kind)
		require.Equal(t, tc.outcome, last.Outcome)
		require.Equal(t, runs.Counts{Read: 3, Dead: 1}, last.Counts)
		require.Equal(t, "v", last.Version)
		held, err := cluster.Leases(t.Context(), pool)
		require.NoError(t, err)
		require.Empty(t, held)
	}
}

// A schema that is newer is said once for each version, also with the settings of a reload.
func TestNoteSchema(t *testing.T) {
	log := &logged{}
	instance := New(config.Default(), newTextLog(log), "v")
	reloaded := instance.with(config.Default())
	instance.noteSchema(postgres.Schema{Version: 10, Known: 10})
	require.Empty(t, log.String())
	for range 3 {
		instance.noteSchema(postgres.Schema{Version: 11, Known: 10})
		reloaded.noteSchema(postgres.Schema{Version: 11, Known: 10})
	}
	require.Equal(t, 1, log.times("the schema is newer than this program"))
	reloaded.noteSchema(postgres.Schema{Version: 12, Known: 10})
	require.Equal(t, 2, log.times("the schema is newer than this program"))
}

// Tables that no event can be applied to are an error before anything is drained.
func TestCheckTables(t *testing.T) {
	w := newWorld(t)
	w.exec(`ALTER TABLE child_profile RENAME TO child`)
	instance, _ := w.instance()
	_, err := instance.OpenEngine(t.Context(), nil)
	require.ErrorIs(t, err, appschema.ErrTables)
	require.ErrorContains(t, err, "child_profile")
}

// A purge by the settings removes what they say, and counts it meanwhile and at the end.
func TestPurge(t *testing.T) {
	w := newWorld(t)
	w.exec(`INSERT INTO child_personality_history (child_profile_id, is_deleted, deleted_at)
		SELECT 1, true, now() - i * interval '1 day' FROM generate_series(1, 40) i`)
	w.cfg.Purge.OlderThan = 10*24*time.Hour + time.Hour
	w.cfg.Postgres.URL = config.URL(w.db.Config().ConnString())
	instance, _ := w.instance()
	require.Equal(t, history.PurgeOptions{OlderThan: w.cfg.Purge.OlderThan, Retention: history.Retention{
		AllDays: w.cfg.Retention.AllDays, DailyDays: w.cfg.Retention.DailyDays,
	}}, instance.PurgeOptions())
	pool, err := instance.OpenPostgres(t.Context(), 3)
	require.NoError(t, err)
	defer pool.Close()
	purge := NewPurge(pool, instance.PurgeOptions())
	require.Zero(t, purge.Counts())
	outcome, err := purge.Do(t.Context())
	require.NoError(t, err)
	require.Equal(t, runs.Done, outcome)
	require.EqualValues(t, 30, purge.Result().Deleted)
	require.EqualValues(t, 30, purge.Counts().Applied)
	require.EqualValues(t, 10, w.number(`SELECT count(*) FROM child_personality_history`))

	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	outcome, _ = NewPurge(pool, instance.PurgeOptions()).Do(stopped)
	require.Equal(t, runs.Stopped, outcome)
}
