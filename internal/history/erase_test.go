package history_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/deadletter"
	"aggregator/internal/events"
	"aggregator/internal/history"
	"aggregator/internal/ledger"
)

func (w *purgeWorld) numbers(sql string) []int64 {
	w.Helper()
	rows, _ := w.all.Query(w.Context(), sql)
	all, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	require.NoError(w, err)
	return all
}

// What the journal has of a row goes with it, and what is older than journal.keep by itself.
func TestPurgeOfTheJournal(t *testing.T) {
	w := newPurgeWorld(t)
	w.fill(20, `i <= 5`, 40*day)
	exec(t, w.all, `INSERT INTO aggregator.journal SELECT child_profile_id, id, 's', now() - id * interval '1 day', '{1}',
		'{1}', '{1}', NULL FROM child_personality_history`)
	exec(t, w.all, `INSERT INTO aggregator.journal
		SELECT p, 1000 + i, 's', now() - interval '5 days', '{1}', '{1}', '{1}', NULL
		FROM generate_series(100, 101) p, generate_series(1, 3000) i`)
	const old = `SELECT history_id FROM aggregator.journal WHERE history_id < 1000 ORDER BY 1`
	o := history.PurgeOptions{OlderThan: 30 * day, DryRun: true}
	assert.EqualValues(t, 5, w.do(o).Journal)
	o.DryRun = false
	assert.EqualValues(t, 5, w.do(o).Journal)
	assert.Equal(t, []int64{6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}, w.numbers(old))
	o.JournalKeep, o.DryRun = 10*day-time.Hour, true
	assert.EqualValues(t, 11, w.do(o).Journal)
	o.DryRun = false
	done := w.do(o)
	assert.EqualValues(t, 11, done.Journal)
	assert.False(t, done.Left)
	assert.Equal(t, []int64{6, 7, 8, 9}, w.numbers(old))
	o.JournalKeep = 4 * day
	assert.EqualValues(t, 6004, w.do(o).Journal, "several batches")
	assert.Len(t, w.ids(), 15, "history stays")
	_, err := history.Purge(t.Context(), w.purge, history.PurgeOptions{JournalKeep: -1})
	require.ErrorContains(t, err, "negative")
}

// Settled dead letters go after dead.keep, and are counted still, also after a reset.
func TestPurgeOfDeadLetters(t *testing.T) {
	w := newPurgeWorld(t)
	_, err := ledger.Create(t.Context(), w.all, "s", events.Position{}, 0)
	require.NoError(t, err)
	exec(t, w.all, `INSERT INTO aggregator.dead_letter (source, position_ms, position_seq, reason, payload, payload_form,
			settled_at, settled_as)
		SELECT s, i, 0, 'malformed', 'x', 'event', CASE WHEN i % 2 = 0 THEN now() - i * interval '1 minute' END,
			CASE WHEN i % 2 = 0 THEN 'dropped' END
		FROM generate_series(1, 3000) i, unnest('{s,t}'::text[]) s`)
	dead := func(source string) (n int64) {
		require.NoError(t, ledger.Hold(t.Context(), w.all, source, accounts(&n)))
		return n
	}
	require.EqualValues(t, 3000, dead("s"))
	o := history.PurgeOptions{OlderThan: 30 * day, DeadKeep: time.Hour + time.Minute, DryRun: true}
	assert.EqualValues(t, 2*1470, w.do(o).Dead)
	require.Equal(t, []int64{6000}, w.numbers(`SELECT count(*) FROM aggregator.dead_letter`))
	o.DryRun = false
	assert.EqualValues(t, 2*1470, w.do(o).Dead)
	assert.EqualValues(t, 0, w.do(o).Dead, "a second time")
	assert.Equal(t, []int64{6000 - 2*1470}, w.numbers(`SELECT count(*) FROM aggregator.dead_letter`))
	assert.EqualValues(t, 3000, dead("s"))
	o.DeadKeep = time.Second
	w.do(o)
	assert.EqualValues(t, 3000, dead("s"), "counts add up")
	assert.Equal(t, []int64{3000}, w.numbers(`SELECT count(*) FROM aggregator.dead_letter`), "what is not settled stays")

	_, err = ledger.Reset(t.Context(), w.all, []string{"s"}, rewound)
	require.NoError(t, err)
	assert.Zero(t, dead("s"))
	assert.Equal(t, []int64{1500, 1500}, w.numbers(`SELECT removed FROM aggregator.dead_letter_removed`))
}

// What is erased of a profile leaves no trace of it but the number of its dead letters.
func TestErase(t *testing.T) {
	w := newPurgeWorld(t)
	w.fill(20, `false`, 0)
	exec(t, w.all, `INSERT INTO aggregator.journal SELECT child_profile_id, id, 's', now(), '{1}', '{1}', '{1}', NULL
		FROM child_personality_history`)
	exec(t, w.all, `INSERT INTO aggregator.dead_letter (source, position_ms, position_seq, child_profile_id, book_id,
			reason, detail, payload, payload_form, settled_at, settled_as, last_error)
		VALUES ('s', 1, 0, 7, 8, 'unknown_book', 'd', '7:8:LIKE', 'event', NULL, NULL, 'e'),
			('s', 2, 0, 7, 8, 'data_error', 'd', '7:8:LIKE', 'event', now(), 'applied', NULL),
			('s', 3, 0, NULL, NULL, 'malformed', 'd', '7:8', 'event', NULL, NULL, NULL),
			('s', 4, 0, NULL, NULL, 'malformed', 'd', '77:8', 'event', NULL, NULL, NULL),
			('s', 5, 0, 70, 8, 'unknown_book', 'd', '70:8:LIKE', 'event', NULL, NULL, 'e'),
			('s', 6, 0, NULL, NULL, 'invalid_utf8', 'd', '\xff00', 'event', NULL, NULL, NULL)`)
	want := history.Erased{Journal: 2, Letters: deadletter.Erased{Dropped: 2, Emptied: 3}}
	for _, dry := range []bool{true, false} {
		done, err := history.Erase(t.Context(), w.purge, 7, dry)
		require.NoError(t, err)
		assert.Equal(t, want, done)
	}
	done, err := history.Erase(t.Context(), w.purge, 7, false)
	require.NoError(t, err)
	assert.Zero(t, done, "a second time")
	assert.Equal(t, []int64{18}, w.numbers(`SELECT count(*) FROM aggregator.journal`))
	assert.Equal(t, []int64{1, 2, 3}, w.numbers(`SELECT position_ms FROM aggregator.dead_letter
		WHERE child_profile_id IS NULL AND book_id IS NULL AND payload = '' AND detail = 'erased' AND last_error IS NULL
			AND settled_as = CASE position_ms WHEN 2 THEN 'applied' ELSE 'dropped' END ORDER BY 1`))
	assert.Equal(t, []int64{4, 5, 6}, w.numbers(`SELECT position_ms FROM aggregator.dead_letter WHERE settled_at IS NULL
		AND payload <> '' AND detail = 'd' ORDER BY 1`))
	assert.Len(t, w.ids(), 20)
}

// accounts reads how many dead letters reconciling counts.
func accounts(dead *int64) func(context.Context, ledger.Accounts) error {
	return func(_ context.Context, a ledger.Accounts) error {
		*dead = a.Dead
		return nil
	}
}

// rewound is a stream that holds nothing.
func rewound(
	context.Context, string, events.Position, events.Position, func([]events.Entry) error,
) (int64, error) {
	return 0, nil
}
