package ledger_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/deadletter"
	"aggregator/internal/ledger"
	"aggregator/internal/testenv"
)

// What the checkpoint has passed is applied or a dead letter, of which some may be settled or removed.
func TestAccounts(t *testing.T) {
	pool := connect(t)
	start, err := ledger.Create(t.Context(), pool, "s", at(1, 0), 100)
	require.NoError(t, err)
	mark(t, pool, "s", at(4, 9), 1, 2, 3)
	mark(t, pool, "s", at(5, 2), 1) // its second event
	mark(t, pool, "s", at(5, 3), 4)
	mark(t, pool, "s", at(6, 0), 5)
	mark(t, pool, "s", at(0, 0), 6)
	testenv.Execute(t, pool, `UPDATE aggregator.mark SET applied = 0 WHERE child_profile_id = 6`)
	mark(t, pool, "other", at(9, 0), 1, 7)
	dead(t, pool, "s", at(2, 0))
	dead(t, pool, "other", at(2, 0))
	dead(t, pool, "s@1", at(2, 0)) // of the epoch before
	_, err = deadletter.Drop(t.Context(), pool, []deadletter.ID{{Source: "s", Position: at(2, 0)}})
	require.NoError(t, err)
	testenv.Execute(t, pool, `INSERT INTO aggregator.dead_letter_removed VALUES ('s', 2), ('other', 1000)`)
	_, err = settle(t, pool, start, at(5, 2))
	require.NoError(t, err)
	removed := ledger.Incident{Source: "s", Kind: ledger.EntriesRemoved, Entries: 7}
	for _, i := range []ledger.Incident{
		removed, {Source: "other", Kind: ledger.EntriesRemoved}, {Source: "s", Kind: ledger.CountMismatch, Entries: 1},
	} {
		recorded, _, err := ledger.Record(t.Context(), pool, i)
		require.NoError(t, err)
		if i == removed {
			require.NoError(t, ledger.AcceptIncidents(t.Context(), pool, start, []int64{recorded.ID}, "i", ledger.Rebase{}))
		}
	}

	var got ledger.Accounts
	require.NoError(t, ledger.Hold(t.Context(), pool, "s", func(_ context.Context, a ledger.Accounts) error {
		got = a
		return nil
	}))
	now, err := ledger.Load(t.Context(), pool, "s")
	require.NoError(t, err)
	assert.Equal(t, now, got.Checkpoint)
	assert.EqualValues(t, 6, got.Applied)
	assert.EqualValues(t, 4, got.Dead, "one is open, one dropped, and two are removed")
	assert.Equal(t, got.Checkpoint.Entries-got.Checkpoint.Base, got.Applied+got.Dead)
	assert.Equal(t, marks{4: at(5, 3), 5: at(6, 0)}, got.PastCheckpoint)
	all, err := ledger.Incidents(t.Context(), pool, "s")
	require.NoError(t, err)
	require.Len(t, all, 2)
	assert.Equal(t, all, got.Incidents, "accepted ones, too")
}

func TestAccountsOfAnEmptySource(t *testing.T) {
	pool := connect(t)
	_, err := ledger.Create(t.Context(), pool, "s", at(1, 0), 100)
	require.NoError(t, err)
	require.NoError(t, ledger.Hold(t.Context(), pool, "s", func(_ context.Context, a ledger.Accounts) error {
		assert.Zero(t, a.Applied+a.Dead)
		assert.Empty(t, a.PastCheckpoint)
		assert.Empty(t, a.Incidents)
		return nil
	}))
}

// While it is checked, the checkpoint stays, and profiles go on.
func TestHoldHoldsTheCheckpoint(t *testing.T) {
	pool := connect(t)
	for _, source := range []string{"s", "other"} {
		_, err := ledger.Create(t.Context(), pool, source, at(1, 0), 0)
		require.NoError(t, err)
	}
	mark(t, pool, "s", at(2, 0), 1)
	require.NoError(t, ledger.Hold(t.Context(), pool, "s", func(context.Context, ledger.Accounts) error {
		var refusal *pgconn.PgError
		err := impatiently(t, pool, `UPDATE aggregator.checkpoint SET entries = 1 WHERE source = 's'`)
		if assert.ErrorAs(t, err, &refusal) {
			assert.Equal(t, "55P03", refusal.Code)
		}
		for _, free := range []string{
			`UPDATE aggregator.checkpoint SET entries = 1 WHERE source = 'other'`,
			`UPDATE aggregator.mark SET applied = 2`,
			`INSERT INTO aggregator.mark VALUES (2, 's', 3, 0, 1)`,
			`SELECT FROM aggregator.checkpoint`,
		} {
			assert.NoError(t, impatiently(t, pool, free), free)
		}
		return nil
	}))
	require.NoError(t, impatiently(t, pool, `UPDATE aggregator.checkpoint SET entries = 1`), "it is held no longer")
}

// Hold ends with what the check says, and with ErrNotInTime after two seconds.
func TestHoldEnds(t *testing.T) {
	pool := connect(t)
	never := func(context.Context, ledger.Accounts) error {
		t.Error("there is nothing to check")
		return nil
	}
	require.ErrorIs(t, ledger.Hold(t.Context(), pool, "s", never), ledger.ErrNoCheckpoint)
	_, err := ledger.Create(t.Context(), pool, "s", at(1, 0), 0)
	require.NoError(t, err)

	wrong := errors.New("wrong")
	err = ledger.Hold(t.Context(), pool, "s", func(context.Context, ledger.Accounts) error { return wrong })
	require.ErrorIs(t, err, wrong)
	require.NotErrorIs(t, err, ledger.ErrNotInTime)

	err = ledger.Hold(t.Context(), pool, "s", func(ctx context.Context, _ ledger.Accounts) error {
		<-ctx.Done()
		return ctx.Err()
	})
	require.ErrorIs(t, err, ledger.ErrNotInTime)
	require.NotErrorIs(t, err, context.DeadlineExceeded, "nobody else's time is over")

	canceled, cancel := context.WithCancel(t.Context())
	err = ledger.Hold(canceled, pool, "s", func(ctx context.Context, _ ledger.Accounts) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, ledger.ErrNotInTime)
	require.NoError(t, impatiently(t, pool, `UPDATE aggregator.checkpoint SET entries = 1`), "it is held no longer")
}
