package ledger_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/deadletter"
	"aggregator/internal/ledger"
	"aggregator/internal/testenv"
)

// To confirm writes the row again, because only what is written is flushed, and changes nothing of it.
func TestConfirm(t *testing.T) {
	pool := connect(t)
	_, err := ledger.Confirm(t.Context(), pool, "s")
	require.ErrorIs(t, err, ledger.ErrNoCheckpoint)
	_, err = ledger.Create(t.Context(), pool, "other", at(7, 7), 7)
	require.NoError(t, err)
	start, err := ledger.Create(t.Context(), pool, "s", at(1, 2), 100)
	require.NoError(t, err)

	const version = `SELECT xmin::text FROM aggregator.checkpoint WHERE source = $1`
	written, other := testenv.Query[string](t, pool, version, "s"), testenv.Query[string](t, pool, version, "other")
	confirmed, err := ledger.Confirm(t.Context(), pool, "s")
	require.NoError(t, err)
	assert.Equal(t, start, confirmed)
	assert.NotEqual(t, written, testenv.Query[string](t, pool, version, "s"), "not written")
	assert.Equal(t, other, testenv.Query[string](t, pool, version, "other"), "the checkpoint of another source")
}

// An instance that comes second takes over the checkpoint as it is, however far it has come.
func TestCreateKeepsWhatIsThere(t *testing.T) {
	pool := connect(t)
	start, err := ledger.Create(t.Context(), pool, "s", at(1, 0), 100)
	require.NoError(t, err)
	assert.Equal(t, [4]int64{100, 100, 0, 1},
		[4]int64{start.Base, start.Entries, start.Epoch, start.Position.Ms}, "all that was there before is passed")
	moved, err := settle(t, pool, start, at(5, 0))
	require.NoError(t, err)
	testenv.Execute(t, pool, `UPDATE aggregator.checkpoint SET epoch = 3`)
	moved.Epoch = 3

	again, err := ledger.Create(t.Context(), pool, "s", at(2, 0), 200)
	require.NoError(t, err)
	moved.Updated = again.Updated // by the clock of the server
	assert.Equal(t, moved, again)
}

func TestCheckpointsAreByName(t *testing.T) {
	pool := connect(t)
	none, err := ledger.Checkpoints(t.Context(), pool)
	require.NoError(t, err)
	require.Empty(t, none)
	for i, source := range []string{"c", "a", "b"} {
		_, err := ledger.Create(t.Context(), pool, source, at(int64(i), 0), 0)
		require.NoError(t, err)
	}
	all, err := ledger.Checkpoints(t.Context(), pool)
	require.NoError(t, err)
	var names []string
	for _, c := range all {
		names = append(names, c.Source)
		one, err := ledger.Load(t.Context(), pool, c.Source)
		require.NoError(t, err)
		assert.Equal(t, one, c)
	}
	assert.Equal(t, []string{"a", "b", "c"}, names)
}

// Of instances that move the checkpoint from the same position at the same time one succeeds, and the dead letters
// are its own.
func TestOneInstanceMovesTheCheckpoint(t *testing.T) {
	pool := connect(t)
	start, err := ledger.Create(t.Context(), pool, "s", at(1, 0), 0)
	require.NoError(t, err)
	var all sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		all.Go(func() { _, errs[i] = settle(t, pool, start, at(5, int64(i))) })
	}
	all.Wait()
	winner := int64(-1)
	for i, err := range errs {
		if err == nil {
			require.Negative(t, winner, "two of them")
			winner = int64(i)
			continue
		}
		require.ErrorIs(t, err, ledger.ErrRefused)
	}
	now, err := ledger.Load(t.Context(), pool, "s")
	require.NoError(t, err)
	assert.Equal(t, at(5, winner), now.Position)
	assert.EqualValues(t, 10, now.Entries)
	require.Equal(t, 1, letters(t, pool))
	assert.Equal(t, winner, testenv.Query[int64](t, pool, `SELECT position_seq FROM aggregator.dead_letter`))
}

// What passes an entry and its dead letter are one transaction, also one that the caller ends.
func TestCallerEndsTheTransaction(t *testing.T) {
	pool := connect(t)
	start, err := ledger.Create(t.Context(), pool, "s", at(1, 0), 0)
	require.NoError(t, err)
	stop := errors.New("stop")
	for _, end := range []error{stop, nil} {
		err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			require.NoError(t, ledger.TryMoveCheckpoint(t.Context(), tx, ledger.Advance{
				From: start, To: at(2, 0), Entries: 3, Dead: junk(at(2, 0)),
			}))
			return end
		})
		require.ErrorIs(t, err, end)
		now, err := ledger.Load(t.Context(), pool, "s")
		require.NoError(t, err)
		if end != nil {
			assert.Equal(t, start, now)
			assert.Zero(t, letters(t, pool))
			continue
		}
		assert.Equal(t, at(2, 0), now.Position)
		assert.EqualValues(t, 3, now.Entries)
		assert.Equal(t, 1, letters(t, pool))
	}
}

// A checkpoint moves by its own source's row alone.
func TestSourcesMoveApart(t *testing.T) {
	pool := connect(t)
	start, err := ledger.Create(t.Context(), pool, "s", at(1, 0), 0)
	require.NoError(t, err)
	other, err := ledger.Create(t.Context(), pool, "other", at(1, 0), 0)
	require.NoError(t, err)
	next, err := settle(t, pool, start, at(2, 0))
	require.NoError(t, err)
	next, err = settle(t, pool, next, at(3, 0))
	require.NoError(t, err)
	assert.EqualValues(t, 20, next.Entries)
	still, err := ledger.Load(t.Context(), pool, "other")
	require.NoError(t, err)
	assert.Equal(t, other, still)
	_, err = settle(t, pool, start, at(4, 0))
	require.ErrorIs(t, err, ledger.ErrRefused, "from where it was")
}

// With dead letters of its own a checkpoint is moved in another way than without: both keep the rules.
func TestBothWaysToMoveTheCheckpoint(t *testing.T) {
	for name, dead := range map[string][]deadletter.Content{"dead letters": junk(at(2, 0)), "none": nil} {
		t.Run(name, func(t *testing.T) {
			pool := connect(t)
			start, err := ledger.Create(t.Context(), pool, "s", at(1, 0), 100)
			require.NoError(t, err)
			// What the commit waits for is seen by a trigger that runs at its end.
			testenv.Execute(t, pool, `CREATE TABLE commits (waits text)`)
			testenv.Execute(t, pool, `CREATE FUNCTION commits() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				INSERT INTO public.commits SELECT current_setting('synchronous_commit'); RETURN NULL; END $$`)
			testenv.Execute(t, pool, `CREATE CONSTRAINT TRIGGER commits AFTER UPDATE ON aggregator.checkpoint
				DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION commits()`)
			mark(t, pool, "s", at(2, 0), 1)
			mark(t, pool, "s", at(1, 9), 2)

			elsewhere, before := start, start
			elsewhere.Position, before.Epoch = at(1, 1), 1
			for name, s := range map[string]ledger.Advance{
				"a mark is behind":     {From: start, Marks: []ledger.Place{{1, at(2, 0)}, {2, at(2, 0)}}},
				"a mark is missing":    {From: start, Marks: []ledger.Place{{1, at(2, 0)}, {3, at(1, 1)}}},
				"it is elsewhere":      {From: elsewhere},
				"the source was reset": {From: before},
				"no such checkpoint":   {From: ledger.Checkpoint{Source: "other", Position: at(1, 0)}},
				"marks of another":     {From: ledger.Checkpoint{Source: "other"}, Marks: []ledger.Place{{1, at(2, 0)}}},
			} {
				s.To, s.Entries, s.Dead = at(2, 0), 10, dead
				_, err := ledger.MoveCheckpoint(t.Context(), pool, s)
				require.ErrorIs(t, err, ledger.ErrRefused, name)
			}
			now, err := ledger.Load(t.Context(), pool, "s")
			require.NoError(t, err)
			require.Equal(t, start, now)
			require.Zero(t, letters(t, pool))
			require.Zero(t, testenv.Query[int](t, pool, `SELECT count(*) FROM commits`))

			moved, err := ledger.MoveCheckpoint(t.Context(), pool, ledger.Advance{
				From: start, To: at(2, 0), Entries: 10, Dead: dead, Marks: []ledger.Place{{1, at(2, 0)}, {2, at(1, 9)}},
			})
			require.NoError(t, err)
			now, err = ledger.Load(t.Context(), pool, "s")
			require.NoError(t, err)
			moved.Updated = now.Updated // by the clock of the server
			assert.Equal(t, moved, now)
			assert.EqualValues(t, 110, now.Entries)
			assert.Equal(t, len(dead), letters(t, pool))
			assert.Equal(t, "on", testenv.Query[string](t, pool, `SELECT string_agg(waits, ' ') FROM commits`))
			assert.Equal(t, "off", testenv.Query[string](t, pool, `SHOW synchronous_commit`), "it outlasts the transaction")
		})
	}
}
