package ledger_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/deadletter"
	"aggregator/internal/events"
	"aggregator/internal/ledger"
	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func connect(t *testing.T) *pgxpool.Pool {
	t.Helper()
	t.Parallel()
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: testenv.Database(t), MaxConns: 4})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func at(ms, seq int64) events.Position { return events.Position{Ms: ms, Seq: seq} }

// mark puts marks where a chunk's transactions would.
func mark(t *testing.T, pool *pgxpool.Pool, source string, to events.Position, profiles ...int64) {
	t.Helper()
	for _, profile := range profiles {
		_, err := pool.Exec(t.Context(),
			`INSERT INTO aggregator.mark AS m (source, child_profile_id, position_ms, position_seq, applied)
			VALUES ($1, $2, $3, $4, 1) ON CONFLICT (child_profile_id, source)
			DO UPDATE SET position_ms = $3, position_seq = $4, applied = m.applied + 1`, source, profile, to.Ms, to.Seq)
		require.NoError(t, err)
	}
}

func settle(t *testing.T, pool *pgxpool.Pool, from ledger.Checkpoint, to events.Position, marks ...ledger.Place) (
	ledger.Checkpoint, error,
) {
	t.Helper()
	return ledger.MoveCheckpoint(t.Context(), pool, ledger.Advance{
		From: from, To: to, Entries: 10, Marks: marks,
		Dead: junk(to),
	})
}

// junk is an entry that is no event.
func junk(at events.Position) []deadletter.Content {
	return []deadletter.Content{deadletter.Rejected(events.Rejection{
		Position: at, Reason: events.Malformed, Payload: payload("junk"),
	})}
}

func payload(text string) events.Payload {
	return events.Payload{Bytes: []byte(text), Form: events.FormEvent}
}

func letters(t *testing.T, pool *pgxpool.Pool) int {
	t.Helper()
	var n int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM aggregator.dead_letter`).Scan(&n))
	return n
}

func TestCheckpoint(t *testing.T) {
	pool := connect(t)
	ctx := t.Context()
	_, err := ledger.Load(ctx, pool, "s")
	require.ErrorIs(t, err, ledger.ErrNoCheckpoint)
	start, err := ledger.Create(ctx, pool, "s", at(1, 0), 100)
	require.NoError(t, err)
	again, err := ledger.Create(ctx, pool, "s", at(2, 0), 200)
	require.NoError(t, err)
	require.Equal(t, start, again, "whoever is first makes it")

	next, err := settle(t, pool, start, at(5, 0))
	require.NoError(t, err)
	assert.Equal(t, at(5, 0), next.Position)
	assert.EqualValues(t, 110, next.Entries)
	loaded, err := ledger.Load(ctx, pool, "s")
	require.NoError(t, err)
	assert.EqualValues(t, 110, loaded.Entries)
	assert.EqualValues(t, 100, loaded.Base)
	all, err := ledger.Checkpoints(ctx, pool)
	require.NoError(t, err)
	assert.Equal(t, []ledger.Checkpoint{loaded}, all)
}

// The checkpoint refuses whenever what it stands for is not so, and then nothing of its
// transaction remains.
func TestCheckpointRefuses(t *testing.T) {
	cases := []struct {
		name    string
		disturb func(t *testing.T, pool *pgxpool.Pool)
		refused bool
	}{
		{"all in place", func(*testing.T, *pgxpool.Pool) {}, false},
		{"a mark is gone", func(t *testing.T, pool *pgxpool.Pool) {
			_, err := pool.Exec(t.Context(), `DELETE FROM aggregator.mark WHERE child_profile_id = 2`)
			require.NoError(t, err)
		}, true},
		{"a mark is behind", func(t *testing.T, pool *pgxpool.Pool) {
			_, err := pool.Exec(t.Context(), `UPDATE aggregator.mark SET position_seq = 0 WHERE child_profile_id = 2`)
			require.NoError(t, err)
		}, true},
		{"a mark is ahead", func(t *testing.T, pool *pgxpool.Pool) {
			_, err := pool.Exec(t.Context(),
				`UPDATE aggregator.mark SET position_ms = 77, position_seq = 0 WHERE child_profile_id = 2`)
			require.NoError(t, err)
		}, false},
		{"the checkpoint is gone", func(t *testing.T, pool *pgxpool.Pool) {
			_, err := pool.Exec(t.Context(), `DELETE FROM aggregator.checkpoint`)
			require.NoError(t, err)
		}, true},
		{"a mark is behind, of a greater number in its millisecond", func(t *testing.T, pool *pgxpool.Pool) {
			testenv.Execute(t, pool, `UPDATE aggregator.mark SET position_ms = 4, position_seq = 9 WHERE child_profile_id = 2`)
		}, true},
		{"a mark is another source's", func(t *testing.T, pool *pgxpool.Pool) {
			testenv.Execute(t, pool, `UPDATE aggregator.mark SET source = 'other' WHERE child_profile_id = 2`)
		}, true},
		{"another profile has one instead", func(t *testing.T, pool *pgxpool.Pool) {
			testenv.Execute(t, pool, `UPDATE aggregator.mark SET child_profile_id = 3 WHERE child_profile_id = 2`)
		}, true},
		{"another profile has one, too", func(t *testing.T, pool *pgxpool.Pool) {
			mark(t, pool, "s", at(9, 0), 3)
		}, false},
		{"the source was reset, and is where it was", func(t *testing.T, pool *pgxpool.Pool) {
			testenv.Execute(t, pool, `UPDATE aggregator.checkpoint SET epoch = epoch + 1`)
		}, true},
		{"the checkpoint was put back", func(t *testing.T, pool *pgxpool.Pool) {
			testenv.Execute(t, pool, `UPDATE aggregator.checkpoint SET position_ms = 0`)
		}, true},
		{"another instance was faster", func(t *testing.T, pool *pgxpool.Pool) {
			_, err := pool.Exec(t.Context(), `UPDATE aggregator.checkpoint SET position_seq = 1`)
			require.NoError(t, err)
		}, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			pool := connect(t)
			start, err := ledger.Create(t.Context(), pool, "s", at(1, 0), 0)
			require.NoError(t, err)
			mark(t, pool, "s", at(5, 1), 1)
			mark(t, pool, "s", at(5, 2), 2)
			c.disturb(t, pool)
			_, err = settle(t, pool, start, at(5, 2), ledger.Place{ProfileID: 1, At: at(5, 1)},
				ledger.Place{ProfileID: 2, At: at(5, 2)})
			if !c.refused {
				require.NoError(t, err)
				assert.Equal(t, 1, letters(t, pool))
				return
			}
			require.ErrorIs(t, err, ledger.ErrRefused)
			assert.Zero(t, letters(t, pool))
		})
	}
}
