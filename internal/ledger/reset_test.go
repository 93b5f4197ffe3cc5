package ledger_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/deadletter"
	"aggregator/internal/events"
	"aggregator/internal/ledger"
	"aggregator/internal/testenv"
)

// rewound is a stream from which so many entries are gone, and whose others are these.
func rewound(gone int64, there ...events.Entry) ledger.Rewind {
	return func(_ context.Context, _ string, _, _ events.Position, drop func([]events.Entry) error) (int64, error) {
		return gone, drop(there)
	}
}

// dead writes a dead letter.
func dead(t *testing.T, pool *pgxpool.Pool, source string, at events.Position) {
	t.Helper()
	var batch pgx.Batch
	deadletter.Queue(&batch, source, junk(at))
	require.NoError(t, pool.SendBatch(t.Context(), &batch).Close())
}

// All of the source begins anew, in a new epoch; what there is of another source stays.
func TestReset(t *testing.T) {
	pool := connect(t)
	start, err := ledger.Create(t.Context(), pool, "s", at(1, 0), 100)
	require.NoError(t, err)
	was, err := settle(t, pool, start, at(5, 0))
	require.NoError(t, err)
	other, err := ledger.Create(t.Context(), pool, "other", at(1, 0), 100)
	require.NoError(t, err)
	mark(t, pool, "s", at(5, 0), 1, 2)
	mark(t, pool, "other", at(4, 4), 1)

	all, err := ledger.Reset(t.Context(), pool, []string{"s"}, rewound(30))
	require.NoError(t, err)
	require.Len(t, all, 1)
	was.Updated = all[0].Was.Updated
	assert.Equal(t, was, all[0].Was)
	now, err := ledger.Load(t.Context(), pool, "s")
	require.NoError(t, err)
	assert.Equal(t, now, all[0].Now)
	assert.Equal(t, ledger.Checkpoint{Source: "s", Base: 30, Entries: 30, Epoch: 1, Updated: now.Updated}, now)
	read, err := ledger.Marks(t.Context(), pool, now, []int64{1, 2})
	require.NoError(t, err)
	assert.Equal(t, marks{1: {}, 2: {}}, read, "rows that a retry of a dead letter can lock")
	assert.Zero(t, testenv.Query[int](t, pool, `SELECT sum(applied) FROM aggregator.mark WHERE source = 's'`))

	still, err := ledger.Load(t.Context(), pool, "other")
	require.NoError(t, err)
	assert.Equal(t, other, still)
	read, err = ledger.Marks(t.Context(), pool, still, []int64{1})
	require.NoError(t, err)
	assert.Equal(t, marks{1: at(4, 4)}, read)

	// Who has read the checkpoint before finds out, whatever it does next.
	_, err = ledger.Marks(t.Context(), pool, was, []int64{1})
	require.ErrorIs(t, err, ledger.ErrReset)
	_, err = settle(t, pool, was, at(6, 0))
	require.ErrorIs(t, err, ledger.ErrRefused)

	again, err := ledger.Reset(t.Context(), pool, []string{"s"}, rewound(0))
	require.NoError(t, err)
	assert.EqualValues(t, 2, again[0].Now.Epoch)
	assert.Equal(t, now, again[0].Was)
}

func TestResetOfASourceWithoutACheckpoint(t *testing.T) {
	pool := connect(t)
	all, err := ledger.Reset(t.Context(), pool, []string{"s"}, rewound(4))
	require.NoError(t, err)
	assert.Zero(t, all[0].Was)
	now, err := ledger.Load(t.Context(), pool, "s")
	require.NoError(t, err)
	assert.Equal(t, ledger.Checkpoint{Source: "s", Base: 4, Entries: 4, Epoch: 1, Updated: now.Updated}, now)
	created, err := ledger.Create(t.Context(), pool, "s", at(3, 0), 9)
	require.NoError(t, err)
	assert.Equal(t, now, created, "what begins now reads from the beginning")
}

// Dead letters are archived. Those whose very entry is read again are dropped, or it would count twice.
func TestResetArchivesDeadLetters(t *testing.T) {
	pool := connect(t)
	for _, ms := range []int64{3, 5, 7, 9} {
		dead(t, pool, "s", at(ms, 1))
	}
	dead(t, pool, "other", at(5, 1))
	testenv.Execute(t, pool, `UPDATE aggregator.dead_letter SET settled_at = '2026-01-01', settled_as = 'applied'
		WHERE source = 's' AND position_ms = 3`)
	testenv.Execute(t, pool, `INSERT INTO aggregator.dead_letter_removed VALUES ('s', 11), ('other', 22)`)

	all, err := ledger.Reset(t.Context(), pool, []string{"s"}, rewound(0,
		events.Entry{Position: at(3, 1), Payload: payload("junk")}, // is settled
		events.Entry{Position: at(5, 1), Payload: payload("junk")},
		events.Entry{Position: at(5, 2), Payload: payload("junk")},  // never was a dead letter
		events.Entry{Position: at(7, 1), Payload: payload("other")}, // of another stream of the same name
		events.Entry{Position: at(9, 1), Payload: events.Payload{Bytes: []byte("junk"), Form: events.FormEntry}},
	))
	require.NoError(t, err)
	assert.Equal(t, "s@1", all[0].ArchivedAs)
	assert.EqualValues(t, 4, all[0].Archived)
	assert.EqualValues(t, 1, all[0].Dropped)
	state := func() string {
		return testenv.Query[string](t, pool, `SELECT string_agg(source || ' ' || position_ms || ' ' ||
			coalesce(settled_as, 'open'), ', ' ORDER BY source, position_ms) FROM aggregator.dead_letter`)
	}
	assert.Equal(t, "other 5 open, s@1 3 applied, s@1 5 dropped, s@1 7 open, s@1 9 open", state())
	assert.Equal(t, "other 22, s@1 11", testenv.Query[string](t, pool,
		`SELECT string_agg(source || ' ' || removed, ', ' ORDER BY source) FROM aggregator.dead_letter_removed`))
	assert.Equal(t, 2026, testenv.Query[time.Time](t, pool,
		`SELECT settled_at FROM aggregator.dead_letter WHERE settled_as = 'applied'`).Year(), "when it was settled")

	dead(t, pool, "s", at(5, 1)) // the position is given again
	_, err = ledger.Reset(t.Context(), pool, []string{"s"}, rewound(0))
	require.NoError(t, err)
	assert.Equal(t, "other 5 open, s@1 3 applied, s@1 5 dropped, s@1 7 open, s@1 9 open, s@2 5 open", state())
}

// The stream is read where dead letters are that are not settled, and nowhere else.
func TestResetAsksForTheEntriesOfDeadLetters(t *testing.T) {
	for _, c := range []struct {
		name        string
		open        []events.Position
		settled     []events.Position
		after, upTo events.Position
	}{
		{"none", nil, nil, at(0, events.MaxSeq), at(0, events.MaxSeq)},
		{"only settled ones", nil, []events.Position{at(5, 0)}, at(0, events.MaxSeq), at(0, events.MaxSeq)},
		{"one", []events.Position{at(5, 3)}, nil, at(4, events.MaxSeq), at(5, events.MaxSeq)},
		{
			"some",
			[]events.Position{at(5, 3), at(12, 1), at(7, 9)},
			[]events.Position{at(2, 0), at(20, 0)},
			at(4, events.MaxSeq), at(12, events.MaxSeq),
		},
		{"from the beginning", []events.Position{at(0, 1), at(3, 0)}, nil, at(0, 0), at(3, events.MaxSeq)},
	} {
		t.Run(c.name, func(t *testing.T) {
			pool := connect(t)
			for _, p := range append(c.open, c.settled...) {
				dead(t, pool, "s", p)
			}
			for _, p := range c.settled {
				_, err := deadletter.Drop(t.Context(), pool, []deadletter.ID{{Source: "s", Position: p}})
				require.NoError(t, err)
			}
			dead(t, pool, "other", at(1, 0))
			dead(t, pool, "other", at(99, 0))
			_, err := ledger.Reset(t.Context(), pool, []string{"s"},
				func(_ context.Context, source string, after, to events.Position, _ func([]events.Entry) error) (int64, error) {
					assert.Equal(t, "s", source)
					assert.Equal(t, []events.Position{c.after, c.upTo}, []events.Position{after, to})
					return 0, nil
				})
			require.NoError(t, err)
		})
	}
}

// A source whose stream cannot be rewound stays as it was, and so do those before it.
func TestResetIsOneTransaction(t *testing.T) {
	pool := connect(t)
	for _, source := range []string{"a", "b"} {
		start, err := ledger.Create(t.Context(), pool, source, at(1, 0), 100)
		require.NoError(t, err)
		_, err = settle(t, pool, start, at(5, 0))
		require.NoError(t, err)
		mark(t, pool, source, at(5, 0), 1)
	}
	const state = `SELECT (SELECT string_agg(c::text, ';' ORDER BY source) FROM aggregator.checkpoint c) ||
		(SELECT string_agg(m::text, ';' ORDER BY source) FROM aggregator.mark m) ||
		(SELECT string_agg(d::text, ';' ORDER BY source) FROM aggregator.dead_letter d)`
	before := testenv.Query[string](t, pool, state)
	stop := errors.New("stop")
	var asked []string
	rewind := func(fail string) ledger.Rewind {
		asked = nil
		return func(_ context.Context, source string, _, to events.Position, drop func([]events.Entry) error) (int64, error) {
			asked = append(asked, source)
			err := drop([]events.Entry{{Position: at(to.Ms, 0), Payload: payload("junk")}})
			if source == fail {
				err = stop
			}
			return 0, err
		}
	}
	_, err := ledger.Reset(t.Context(), pool, []string{"a", "b"}, rewind("b"))
	require.ErrorIs(t, err, stop)
	assert.Equal(t, []string{"a", "b"}, asked)
	assert.Equal(t, before, testenv.Query[string](t, pool, state))

	all, err := ledger.Reset(t.Context(), pool, []string{"a", "b"}, rewind(""))
	require.NoError(t, err)
	for i, source := range []string{"a", "b"} {
		assert.Equal(t, source, all[i].Now.Source)
		assert.EqualValues(t, 1, all[i].Now.Epoch)
		assert.Equal(t, [2]int64{1, 1}, [2]int64{all[i].Archived, all[i].Dropped})
	}
}

// A first mark of the epoch before that is not committed yet is waited for, and put to zero. Else its profile's
// events would be passed over when they are read again.
func TestResetWaitsForMarksInFlight(t *testing.T) {
	pool := connect(t)
	_, err := ledger.Create(t.Context(), pool, "s", at(1, 0), 0)
	require.NoError(t, err)
	first, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer first.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // it is committed
	_, err = first.Exec(t.Context(), `INSERT INTO aggregator.mark (child_profile_id, source, position_ms, position_seq,
		applied) VALUES (1, 's', 5, 0, 1)`)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := ledger.Reset(t.Context(), pool, []string{"s"}, rewound(0))
		done <- err
	}()
	require.Eventually(t, func() bool {
		return len(done) > 0 || testenv.Query[bool](t, pool, `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted
			AND relation = 'aggregator.mark'::regclass)`)
	}, time.Minute, time.Millisecond)
	require.Empty(t, done, "it did not wait")
	require.NoError(t, first.Commit(t.Context()))
	require.NoError(t, <-done)
	now, err := ledger.Load(t.Context(), pool, "s")
	require.NoError(t, err)
	read, err := ledger.Marks(t.Context(), pool, now, []int64{1})
	require.NoError(t, err)
	assert.Equal(t, marks{1: {}}, read)
}

// From before the stream is rewound no checkpoint can be read, and no mark of any source can be made.
func TestNobodyReadsDuringAReset(t *testing.T) {
	pool := connect(t)
	_, err := ledger.Create(t.Context(), pool, "other", at(1, 0), 0)
	require.NoError(t, err)
	mark(t, pool, "other", at(2, 0), 1)
	asked := false
	_, err = ledger.Reset(t.Context(), pool, []string{"s"},
		func(context.Context, string, events.Position, events.Position, func([]events.Entry) error) (int64, error) {
			asked = true
			for statement, waits := range map[string]bool{
				`SELECT FROM aggregator.checkpoint`:                   true,
				`UPDATE aggregator.mark SET applied = applied`:        true,
				`INSERT INTO aggregator.mark VALUES (2, 'o', 1, 1,1)`: true,
				`SELECT FROM aggregator.mark`:                         false,
			} {
				if err := impatiently(t, pool, statement); !waits {
					assert.NoError(t, err, statement)
				} else {
					var refusal *pgconn.PgError
					if assert.ErrorAs(t, err, &refusal, statement) {
						assert.Equal(t, "55P03", refusal.Code, statement)
					}
				}
			}
			return 0, nil
		})
	require.NoError(t, err)
	require.True(t, asked)
}

// impatiently runs a statement that must not wait for a lock.
func impatiently(t *testing.T, pool *pgxpool.Pool, statement string) error {
	t.Helper()
	return pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `SET LOCAL lock_timeout = '10ms'`)
		if err == nil {
			_, err = tx.Exec(t.Context(), statement)
		}
		return err
	})
}
