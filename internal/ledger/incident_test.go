package ledger_test

import (
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/events"
	"aggregator/internal/ledger"
)

func setBack(from, to, entries, retained, added int64) ledger.Incident {
	return ledger.Incident{
		Source: "s", Kind: ledger.PostgresSetBack, From: events.Position{Ms: from}, To: events.Position{Ms: to},
		Entries: entries, Retained: retained, Added: added, MarkedPast: new(int64),
	}
}

func openOnes(t *testing.T, pool *pgxpool.Pool) []ledger.Incident {
	t.Helper()
	open, err := ledger.OpenIncidents(t.Context(), pool)
	require.NoError(t, err)
	return open
}

// What was told is not told again, what comes to it is added, and an accepted one covers what it was about.
func TestIncidentsAreRecorded(t *testing.T) {
	pool := connect(t)
	at, err := ledger.Create(t.Context(), pool, "s", events.Position{Ms: 10}, 100)
	require.NoError(t, err)
	record := func(i ledger.Incident, changes bool) ledger.Incident {
		t.Helper()
		recorded, changed, err := ledger.Record(t.Context(), pool, i)
		require.NoError(t, err)
		require.Equal(t, changes, changed)
		return recorded
	}
	first := record(setBack(10, 20, 50, 20, 150), true)
	require.EqualValues(t, 30, first.Lost())
	require.Equal(t, first.ID, record(setBack(15, 20, 25, 0, 150), false).ID, "the checkpoint came closer")

	// The bookmark moved on: what is before it is known.
	_, _, err = ledger.Record(t.Context(), pool, setBack(15, 30, 40, 0, 165))
	require.ErrorIs(t, err, ledger.ErrIncidentKnown)
	next := setBack(15, 30, 40, 0, 165).Beyond(openOnes(t, pool))
	require.Equal(t, events.Position{Ms: 20}, next.From)
	require.EqualValues(t, 15, next.Entries)
	both := record(next, true)
	require.Equal(t, first.ID, both.ID)
	require.Equal(t, []int64{65, 20, 45}, []int64{both.Entries, both.Retained, both.Lost()})

	removed := ledger.Incident{Source: "s", Kind: ledger.EntriesRemoved, Entries: 7}
	record(removed, true)
	removed.Entries = 5
	record(removed, false)
	removed.Entries = 8
	record(removed, true)
	require.Len(t, openOnes(t, pool), 2)

	// To accept moves the epoch, in which both are about the same positions.
	open := openOnes(t, pool)
	off := ledger.Rebase{Vanished: 53, Difference: 3}
	require.NoError(t, ledger.AcceptIncidents(t.Context(), pool, at, []int64{open[0].ID}, "i", off))
	now, err := ledger.Load(t.Context(), pool, "s")
	require.NoError(t, err)
	assert.Equal(t, [3]int64{150, 153, 1}, [3]int64{now.Base, now.Entries, now.Epoch})
	require.ErrorIs(t, ledger.AcceptIncidents(t.Context(), pool, at, []int64{open[1].ID}, "i", off), ledger.ErrReset)
	require.Len(t, openOnes(t, pool), 1)
	again := setBack(15, 30, 40, 0, 165)
	again.Epoch = 1
	record(again, false)
	again.From, again.To = events.Position{Ms: 30}, events.Position{Ms: 31}
	require.NotEqual(t, first.ID, record(again, true).ID)
}

func TestIncidentsAreRecordedOnce(t *testing.T) {
	pool := connect(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			_, _, err := ledger.Record(t.Context(), pool, setBack(10, 20, 50, 20, 150))
			assert.NoError(t, err)
		})
	}
	all.Wait()
	require.Len(t, openOnes(t, pool), 1)
	require.EqualValues(t, 50, openOnes(t, pool)[0].Entries)
}
