//go:build faults

package faults_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/internal/history"
	"aggregator/internal/postgres"
	"aggregator/internal/scores"
)

// With the journal on, every row of history is explained to the last point, whatever was killed: the daemon at each
// point of the loop, and under load.
func TestJournalExplainsEverything(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string][]string{
		"one by one": {"AGGREGATOR_JOURNAL_KEEP=1h", "AGGREGATOR_CHUNK_MAX_EVENTS=200"},
		"together": {
			"AGGREGATOR_JOURNAL_KEEP=1h", "AGGREGATOR_CHUNK_MAX_EVENTS=200", "AGGREGATOR_APPLY_PROFILES_PER_TRANSACTION=50",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{source: partitioned, env: settings})
			for _, point := range points {
				w.push(500)
				w.start("drain", "CRASH_AT="+point+":2").crashed()
			}
			first, second := w.start("run"), w.start("run")
			w.push(1000)
			first.kill()
			w.push(500)
			w.emptied()
			second.stop()
			w.exact()
			w.explained()
		})
	}
}

// explained fails the test unless there is a journal of each row of history that events have led to, which explains all
// of it. Each profile has a row from before, of its diagnosis.
func (w *world) explained() {
	w.t.Helper()
	ctx := w.t.Context()
	pool, err := postgres.Open(ctx, postgres.Options{URL: w.database, MaxConns: 2})
	require.NoError(w.t, err)
	defer pool.Close()
	catalogue := scores.NewCatalogue(pool, slog.New(slog.DiscardHandler),
		scores.CatalogueOptions{Books: 1000, Profiles: 1000, TTL: time.Hour})
	rows, _ := pool.Query(ctx, `SELECT child_profile_id, id FROM child_personality_history
		WHERE history_created_type = 'FEEDBACK' ORDER BY id`)
	type key struct{ Profile, ID int64 }
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[key])
	require.NoError(w.t, err)
	require.NotEmpty(w.t, all)
	added := 0
	for _, k := range all {
		e, err := history.Explain(ctx, pool, catalogue, scores.MeanOfPositive, k.Profile, k.ID, time.Time{})
		require.NoError(w.t, err)
		require.NotNil(w.t, e.Before)
		require.True(w.t, e.Explained, "%+v", e)
		added += len(e.Events)
	}
	var applied, entries int
	require.NoError(w.t, pool.QueryRow(ctx, `SELECT (SELECT sum(applied) FROM aggregator.mark),
		(SELECT sum(cardinality(books)) FROM aggregator.journal)`).Scan(&applied, &entries))
	require.Equal(w.t, applied, added, "events applied, and in the explanations")
	require.Equal(w.t, applied, entries, "events applied, and in the journal")
	w.t.Logf("%d rows of history explained, of %d events", len(all), added)
}
