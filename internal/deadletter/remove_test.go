package deadletter_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/deadletter"
	"aggregator/internal/events"
	"aggregator/internal/testenv"
)

// there are the dead letters, as source and milliseconds.
func there(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	return testenv.Query[string](t, pool,
		`SELECT coalesce(string_agg(source || position_ms, ' ' ORDER BY source, position_ms), '')
		FROM aggregator.dead_letter`)
}

func removedOf(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	return testenv.Query[string](t, pool, `SELECT coalesce(string_agg(source || ' ' || removed, ', ' ORDER BY source), '')
		FROM aggregator.dead_letter_removed`)
}

// settledLetters are a1 to a5 and b1 and b2, of which a3 is open, a4 was settled lately, and the others long ago.
func settledLetters(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool := connect(t)
	add(t, pool, "a", time.Hour, rejected(events.Malformed, 1), rejected(events.Malformed, 2),
		rejected(events.Malformed, 3), rejected(events.Malformed, 4), rejected(events.Malformed, 5))
	add(t, pool, "b", time.Hour, rejected(events.Malformed, 1), rejected(events.Malformed, 2))
	testenv.Execute(t, pool, `UPDATE aggregator.dead_letter SET settled_as = 'dropped', settled_at =
		CASE WHEN (source, position_ms) = ('a', 4) THEN '2026-03-01' ELSE '2026-01-01' END::timestamptz
		WHERE (source, position_ms) <> ('a', 3)`)
	return pool
}

var february = time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)

// Only what was settled before is removed, a batch after the other, and counted by source in the same transaction.
func TestRemoveSettled(t *testing.T) {
	for _, size := range []int{1, 2, 3, 7, 100} {
		for _, countOnly := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d/%v", size, countOnly), func(t *testing.T) {
				pool := settledLetters(t)
				var last deadletter.ID
				total, batches := int64(0), 0
				for more := true; more; batches++ {
					r, err := deadletter.RemoveSettled(t.Context(), pool, february, last, size, countOnly)
					require.NoError(t, err)
					require.LessOrEqual(t, r.Removed, int64(size))
					total += r.Removed
					last, more = r.Last, r.More
				}
				assert.EqualValues(t, 5, total)
				assert.Equal(t, 7/size+1, batches, "batches of %d", size)
				if countOnly {
					assert.Equal(t, "a1 a2 a3 a4 a5 b1 b2", there(t, pool))
					assert.Empty(t, removedOf(t, pool))
					return
				}
				assert.Equal(t, "a3 a4", there(t, pool))
				assert.Equal(t, "a 3, b 2", removedOf(t, pool))

				// What is removed later is added.
				r, err := deadletter.RemoveSettled(t.Context(), pool, time.Now(), deadletter.ID{}, 10, false)
				require.NoError(t, err)
				assert.Equal(t, deadletter.Removal{Removed: 1, Last: deadletter.ID{Source: "a", Position: at(4, 0)}}, r)
				assert.Equal(t, "a 4, b 2", removedOf(t, pool))
			})
		}
	}
}

// What another transaction holds is left, and not counted.
func TestRemoveSettledLeavesWhatIsHeld(t *testing.T) {
	pool := settledLetters(t)
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `SELECT FROM aggregator.dead_letter WHERE source = 'a' FOR UPDATE`); err != nil {
			return err
		}
		r, err := deadletter.RemoveSettled(t.Context(), pool, february, deadletter.ID{}, 100, false)
		assert.EqualValues(t, 2, r.Removed)
		return err
	})
	require.NoError(t, err)
	assert.Equal(t, "a1 a2 a3 a4 a5", there(t, pool))
	assert.Equal(t, "b 2", removedOf(t, pool))
}

// All that names a profile is forgotten, by its id or by the beginning of a payload that is no event. The rows stay.
func TestErase(t *testing.T) {
	pool := connect(t)
	junk := func(ms int64, form events.Form, text string) deadletter.Content {
		return deadletter.Rejected(events.Rejection{
			Position: at(ms, 0), Reason: events.UnknownAction, Detail: text,
			Payload: events.Payload{Bytes: []byte(text), Form: form},
		})
	}
	add(t, pool, "s", 0, unknown(events.UnknownBook, 1, 12, 9), unknown(events.UnknownBook, 2, 12, 9),
		unknown(events.UnknownBook, 3, 123, 9), junk(4, events.FormEvent, "12:9:EAT"), junk(5, events.FormEvent, "123:9:EAT"),
		junk(6, events.FormEntry, "12:9:EAT"), junk(7, events.FormEvent, "1:12:EAT"), junk(8, events.FormEvent, "12"))
	require.Empty(t, apply(t, pool, deadletter.ID{Source: "s", Position: at(2, 0)}, 12))
	require.NoError(t, deadletter.Attempted(t.Context(), pool, deadletter.ID{Source: "s", Position: at(1, 0)}, "secret"))

	run := func(f func(tx pgx.Tx) (deadletter.Erased, error)) (done deadletter.Erased) {
		t.Helper()
		require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) (err error) {
			done, err = f(tx)
			return err
		}))
		return done
	}
	erase := func(tx pgx.Tx) (deadletter.Erased, error) { return deadletter.Erase(t.Context(), tx, 12) }
	want := deadletter.Erased{Dropped: 2, Emptied: 3}
	before := there(t, pool)
	assert.Equal(t, want, run(func(tx pgx.Tx) (deadletter.Erased, error) {
		return deadletter.CountErasable(t.Context(), tx, 12)
	}))
	assert.Equal(t, want, run(erase))
	assert.Equal(t, deadletter.Erased{}, run(erase), "again")
	assert.Equal(t, before, there(t, pool), "they are still counted")
	for ms, as := range map[int64]string{1: "dropped", 2: "applied", 4: "dropped"} {
		got, err := deadletter.Find(t.Context(), pool, deadletter.ID{Source: "s", Position: at(ms, 0)})
		require.NoError(t, err)
		assert.Equal(t, as, got.SettledAs, ms)
		assert.NotNil(t, got.Settled)
		assert.Equal(t, "erased", got.Detail)
		assert.Empty(t, got.Payload.Bytes)
		assert.Nil(t, got.ProfileID)
		assert.Nil(t, got.BookID)
		assert.Nil(t, got.LastError)
	}
	assert.Equal(t, "3 5 6 7 8", testenv.Query[string](t, pool,
		`SELECT string_agg(position_ms::text, ' ' ORDER BY position_ms)
		FROM aggregator.dead_letter WHERE settled_at IS NULL AND detail <> 'erased' AND payload <> ''`))
}

// Dead letters that are settled are nobody's work any more.
func TestCountUnsettled(t *testing.T) {
	pool := connect(t)
	none, err := deadletter.CountUnsettled(t.Context(), pool)
	require.NoError(t, err)
	require.Equal(t, map[events.Reason]int64{}, none)
	add(t, pool, "a", 0, rejected(events.Malformed, 1), rejected(events.Malformed, 2), rejected(events.OutOfRange, 3),
		unknown(events.UnknownBook, 4, 1, 1))
	add(t, pool, "b", 0, rejected(events.Malformed, 1))
	dropped, err := deadletter.Drop(t.Context(), pool, []deadletter.ID{
		{Source: "a", Position: at(1, 0)}, {Source: "a", Position: at(3, 0)},
	})
	require.NoError(t, err)
	require.EqualValues(t, 2, dropped)
	count, err := deadletter.CountUnsettled(t.Context(), pool)
	require.NoError(t, err)
	assert.Equal(t, map[events.Reason]int64{events.Malformed: 2, events.UnknownBook: 1}, count)
}

// A dead letter that a reset has archived is applied under the mark of the source that it came from: this is the one
// that chunks lock.
func TestApplyingAnArchivedOne(t *testing.T) {
	pool := connect(t)
	for _, c := range []struct{ source, mark string }{
		{deadletter.Aside("s", 3), "s"}, {deadletter.Aside("a@b", 12), "a@b"}, {"x@", "x@"}, {"@7x", "@7x"},
	} {
		add(t, pool, c.source, 0, unknown(events.UnknownBook, 1, 1, 4))
		id := deadletter.ID{Source: c.source, Position: at(1, 0)}
		require.Empty(t, apply(t, pool, id, 1))
		assert.Equal(t, c.mark, testenv.Query[string](t, pool, `DELETE FROM aggregator.mark RETURNING source`))
		got, err := deadletter.Find(t.Context(), pool, id)
		require.NoError(t, err)
		assert.Equal(t, "applied", got.SettledAs)
	}
}

// One that is named must be there and open; of a filter it is so many as are wanted.
func TestChosenPages(t *testing.T) {
	pool := connect(t)
	add(t, pool, "a", 0, rejected(events.Malformed, 1), rejected(events.Malformed, 2), rejected(events.Malformed, 3),
		rejected(events.Malformed, 4))
	_, err := deadletter.Drop(t.Context(), pool, []deadletter.ID{{Source: "a", Position: at(4, 0)}})
	require.NoError(t, err)
	one := func(ms int64) *deadletter.ID { return &deadletter.ID{Source: "a", Position: at(ms, 0)} }
	for _, c := range []struct {
		name   string
		choice deadletter.Choice
		want   []int // sizes of pages
		err    error
	}{
		{"one", deadletter.Choice{One: one(2)}, []int{1}, nil},
		{"one that is settled", deadletter.Choice{One: one(4)}, nil, deadletter.ErrSettled},
		{"one that is not there", deadletter.Choice{One: one(5)}, nil, deadletter.ErrNone},
		{"all", deadletter.Choice{}, []int{2, 1}, nil},
		{"at most one", deadletter.Choice{Limit: 1}, []int{1}, nil},
		{"at most a page", deadletter.Choice{Limit: 2}, []int{2}, nil},
		{"more than there are", deadletter.Choice{Limit: 9}, []int{2, 1}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			pages, err := c.choice.Pages(t.Context(), pool, 2)
			require.ErrorIs(t, err, c.err)
			if err != nil {
				return
			}
			var sizes []int
			for page, err := range pages {
				require.NoError(t, err)
				sizes = append(sizes, len(page))
			}
			assert.Equal(t, c.want, sizes)
		})
	}
}
