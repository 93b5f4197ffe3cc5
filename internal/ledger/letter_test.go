package ledger_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/events"
	"aggregator/internal/ledger"
)

// bury writes letters of a source, created so long ago.
func bury(t *testing.T, pool *pgxpool.Pool, source string, age time.Duration, letters ...ledger.DeadLetter) {
	t.Helper()
	var batch pgx.Batch
	ledger.Bury(&batch, source, letters)
	for _, l := range letters {
		batch.Queue(`UPDATE aggregator.dead_letter SET created_at = now() - $1 * interval '1 second'
			WHERE source = $2 AND position_ms = $3 AND position_seq = $4`, age.Seconds(), source, l.Position.Ms, l.Position.Seq)
	}
	require.NoError(t, pool.SendBatch(t.Context(), &batch).Close())
}

func unknown(reason events.Reason, ms, profile, book int64) ledger.DeadLetter {
	event, _, _ := events.Decoder{}.Decode(events.Payload{Bytes: fmt.Appendf(nil, "%d:%d:LIKE", profile, book), Form: events.FormEvent})
	event.Position = at(ms, 0)
	return ledger.Unapplied(event, reason, "not there")
}

func rejected(reason events.Reason, ms int64) ledger.DeadLetter {
	return ledger.Rejected(events.Rejection{Position: at(ms, 0), Reason: reason, Detail: "bad", Payload: events.Payload{Bytes: []byte{0xff, 0}, Form: events.FormEvent}})
}

func chosen(t *testing.T, pool *pgxpool.Pool, f ledger.Filter) []string {
	t.Helper()
	ids := []string{}
	for page, err := range ledger.LetterPages(t.Context(), pool, f, 2) {
		require.NoError(t, err)
		require.LessOrEqual(t, len(page), 2)
		for _, l := range page {
			ids = append(ids, l.ID().String())
		}
	}
	n, err := ledger.CountLetters(t.Context(), pool, f)
	require.NoError(t, err)
	assert.EqualValues(t, len(ids), n)
	return ids
}

func TestLetterFilters(t *testing.T) {
	pool := connect(t)
	bury(t, pool, "a", time.Hour, unknown(events.UnknownProfile, 1, 1, 1), unknown(events.UnknownBook, 2, 2, 9))
	bury(t, pool, "b", time.Minute, rejected(events.Malformed, 1), unknown(events.UnknownProfile, 3, 1, 1))
	bury(t, pool, "a", 2*time.Hour, rejected(events.OutOfRange, 7))
	_, err := ledger.Drop(t.Context(), pool, []ledger.LetterID{{Source: "a", Position: at(2, 0)}})
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `WITH b AS (INSERT INTO book (id, title) VALUES (1, '')) INSERT INTO child_profile (id, name) VALUES (1, ''), (2, '')`)
	require.NoError(t, err)
	one := int64(1)
	for _, c := range []struct {
		name   string
		filter ledger.Filter
		want   []string
	}{
		{"not settled, oldest first", ledger.Filter{}, []string{"a 7-0", "a 1-0", "b 1-0", "b 3-0"}},
		{"settled too", ledger.Filter{Settled: true}, []string{"a 7-0", "a 1-0", "a 2-0", "b 1-0", "b 3-0"}},
		{"reason", ledger.Filter{Reasons: []events.Reason{events.UnknownProfile}}, []string{"a 1-0", "b 3-0"}},
		{"reasons", ledger.Filter{Reasons: []events.Reason{events.Malformed, events.OutOfRange}}, []string{"a 7-0", "b 1-0"}},
		{"old", ledger.Filter{OlderThan: 30 * time.Minute}, []string{"a 7-0", "a 1-0"}},
		{"new", ledger.Filter{NewerThan: 30 * time.Minute}, []string{"b 1-0", "b 3-0"}},
		{"between", ledger.Filter{OlderThan: 30 * time.Minute, NewerThan: 90 * time.Minute}, []string{"a 1-0"}},
		{"profile", ledger.Filter{ProfileID: &one}, []string{"a 1-0", "b 3-0"}},
		{"source", ledger.Filter{Sources: []string{"b"}}, []string{"b 1-0", "b 3-0"}},
		{"known by now", ledger.Filter{Known: true}, []string{"a 1-0", "b 3-0"}},
		{"all at once", ledger.Filter{
			Reasons: []events.Reason{events.UnknownProfile}, OlderThan: time.Second, NewerThan: time.Hour / 2,
			ProfileID: &one, Sources: []string{"a", "b"}, Settled: true, Known: true,
		}, []string{"b 3-0"}},
		{"none", ledger.Filter{Sources: []string{"c"}}, []string{}},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, chosen(t, pool, c.filter)) })
	}
}

// Letters that PostgreSQL dated when its clock was ahead are seen, and are as young as can be.
func TestLettersOfTheFuture(t *testing.T) {
	pool := connect(t)
	bury(t, pool, "s", time.Hour, rejected(events.Malformed, 1))
	bury(t, pool, "s", -24*time.Hour, rejected(events.Malformed, 2), rejected(events.Malformed, 3))
	bury(t, pool, "s", -365*24*time.Hour, rejected(events.Malformed, 4))
	_, err := ledger.Drop(t.Context(), pool, []ledger.LetterID{{Source: "s", Position: at(4, 0)}})
	require.NoError(t, err)
	require.Equal(t, []string{"s 1-0", "s 2-0", "s 3-0"}, chosen(t, pool, ledger.Filter{}))
	require.Equal(t, []string{"s 1-0", "s 2-0", "s 3-0", "s 4-0"}, chosen(t, pool, ledger.Filter{Settled: true}))
	require.Equal(t, []string{"s 2-0", "s 3-0"}, chosen(t, pool, ledger.Filter{NewerThan: time.Minute}))
	require.Equal(t, []string{"s 1-0"}, chosen(t, pool, ledger.Filter{OlderThan: time.Minute}))
}

// Paging ends although letters are written all the time, and stops when it is told to.
func TestLetterPagesEnd(t *testing.T) {
	pool := connect(t)
	for ms := range int64(5) {
		bury(t, pool, "s", 0, rejected(events.Malformed, ms+1))
	}
	seen := 0
	for page, err := range ledger.LetterPages(t.Context(), pool, ledger.Filter{}, 1) {
		require.NoError(t, err)
		seen += len(page)
		bury(t, pool, "s", 0, rejected(events.Malformed, int64(100+seen)))
	}
	assert.Equal(t, 5, seen)
	for _, err := range ledger.LetterPages(t.Context(), pool, ledger.Filter{}, 1) {
		require.NoError(t, err)
		break
	}
	pool.Close()
	errors := 0
	for page, err := range ledger.LetterPages(t.Context(), pool, ledger.Filter{}, 1) {
		require.Empty(t, page)
		require.Error(t, err)
		errors++
	}
	assert.Equal(t, 1, errors)
}

func TestFindLetter(t *testing.T) {
	pool := connect(t)
	state := "23514"
	letter := unknown(events.DataError, 5, 1, 2)
	letter.SQLState = &state
	bury(t, pool, "s", 0, letter)
	got, err := ledger.FindLetter(t.Context(), pool, ledger.LetterID{Source: "s", Position: at(5, 0)})
	require.NoError(t, err)
	assert.Equal(t, letter, got.DeadLetter)
	assert.Zero(t, got.Attempts)
	assert.Nil(t, got.Settled)
	_, err = ledger.FindLetter(t.Context(), pool, ledger.LetterID{Source: "s", Position: at(5, 1)})
	require.ErrorIs(t, err, ledger.ErrNoLetter)
}

// revive settles a letter, and returns the SQLSTATE if it is refused.
func revive(t *testing.T, pool *pgxpool.Pool, id ledger.LetterID, profile int64) string {
	t.Helper()
	var batch pgx.Batch
	ledger.Revive(&batch, id, events.Event{ProfileID: profile, BookID: 4})
	ledger.Durable(&batch)
	batch.Queue(`INSERT INTO child_profile (name) VALUES ('what the transaction does')`)
	err := pool.SendBatch(t.Context(), &batch).Close()
	if err == nil {
		return ""
	}
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	return pg.Code
}

func TestReviveSettlesOnce(t *testing.T) {
	pool := connect(t)
	bury(t, pool, "s", 0, unknown(events.UnknownBook, 5, 1, 4), rejected(events.UnknownAction, 6))
	one, two := ledger.LetterID{Source: "s", Position: at(5, 0)}, ledger.LetterID{Source: "s", Position: at(6, 0)}
	mark(t, pool, "s", at(5, 0), 1)
	was := effects(t, pool)
	require.NoError(t, ledger.Attempted(t.Context(), pool, one, "why"))
	require.Empty(t, revive(t, pool, one, 1))
	require.Equal(t, ledger.LetterSettled, revive(t, pool, one, 1))
	require.Equal(t, ledger.LetterSettled, revive(t, pool, ledger.LetterID{Source: "s", Position: at(5, 1)}, 1), "not there")
	require.Equal(t, was+1, effects(t, pool))
	require.NoError(t, ledger.Attempted(t.Context(), pool, one, "too late"))
	got, err := ledger.FindLetter(t.Context(), pool, one)
	require.NoError(t, err)
	assert.Equal(t, "applied", got.SettledAs)
	assert.Equal(t, 2, got.Attempts)
	assert.Nil(t, got.LastError)
	dropped, err := ledger.Drop(t.Context(), pool, []ledger.LetterID{one, two, two})
	require.NoError(t, err)
	assert.EqualValues(t, 1, dropped)
	require.Equal(t, ledger.LetterSettled, revive(t, pool, two, 1))

	var applied, position int64
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT applied, position_ms FROM aggregator.mark`).Scan(&applied, &position))
	assert.EqualValues(t, 1, applied)
	assert.EqualValues(t, 5, position)
}

// A profile without a mark gets one that passes nothing.
func TestReviveMakesAMark(t *testing.T) {
	pool := connect(t)
	bury(t, pool, "s", 0, rejected(events.UnknownAction, 6))
	from, err := ledger.Create(t.Context(), pool, "s", at(7, 0), 2)
	require.NoError(t, err)
	require.Empty(t, revive(t, pool, ledger.LetterID{Source: "s", Position: at(6, 0)}, 1))
	marks, err := ledger.Marks(t.Context(), pool, from, []int64{1, 2})
	require.NoError(t, err)
	require.Equal(t, map[int64]events.Position{1: {}}, marks)
}

// The indexes serve what they are made for, however many letters are settled or junk.
func TestLetterIndexes(t *testing.T) {
	pool := connect(t)
	_, err := pool.Exec(t.Context(), `
INSERT INTO aggregator.dead_letter (source, position_ms, position_seq, child_profile_id, book_id, reason, payload, payload_form, created_at, settled_at, settled_as)
SELECT 's', i, 0, i, i, CASE i % 50 WHEN 0 THEN 'unknown_book' ELSE 'malformed' END, '', 'event', now() - i * interval '1 second',
    CASE WHEN i % 3 = 0 THEN now() END, CASE WHEN i % 3 = 0 THEN 'dropped' END
FROM generate_series(1, 20000) i`)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `ANALYZE aggregator.dead_letter`)
	require.NoError(t, err)
	for _, tc := range []struct {
		index  string
		least  int64 // scans
		filter ledger.Filter
	}{
		{"dead_letter_unsettled", 2, ledger.Filter{}}, // one is for the latest letter
		{"dead_letter_unknown", 1, ledger.Filter{Known: true, NewerThan: 10 * time.Minute, Sources: []string{"s"}}},
	} {
		for _, err := range ledger.LetterPages(t.Context(), pool, tc.filter, 100) {
			require.NoError(t, err)
			break
		}
		var scans int64
		pool.Reset() // a connection tells its counts when it ends
		require.Eventually(t, func() bool {
			require.NoError(t, pool.QueryRow(t.Context(), `SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = $1`, tc.index).Scan(&scans))
			return scans >= tc.least
		}, 20*time.Second, 10*time.Millisecond, tc.index)
	}
}

// In the order of positions, whenever they were written, and along an index.
func TestLettersByPosition(t *testing.T) {
	pool := connect(t)
	bury(t, pool, "b", 3*time.Hour, rejected(events.Malformed, 20), rejected(events.Malformed, 3))
	bury(t, pool, "a", time.Hour, rejected(events.Malformed, 9), rejected(events.Malformed, 100))
	bury(t, pool, "a", 2*time.Hour, rejected(events.Malformed, 10))
	require.Equal(t, []string{"a 9-0", "a 10-0", "a 100-0", "b 3-0", "b 20-0"}, chosen(t, pool, ledger.Filter{ByPosition: true}))
	require.Equal(t, []string{"b 3-0", "b 20-0", "a 10-0", "a 9-0", "a 100-0"}, chosen(t, pool, ledger.Filter{}))

	rows, _ := pool.Query(t.Context(), `EXPLAIN SELECT * FROM aggregator.dead_letter d WHERE coalesce(d.settled_at, 'infinity') = 'infinity'
		AND (d.source, d.position_ms, d.position_seq) > ('a', 9, 0) ORDER BY d.source, d.position_ms, d.position_seq LIMIT 100`)
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(plan), "Index Scan using dead_letter_pkey")
	require.NotContains(t, fmt.Sprint(plan), "Sort")
}
