package deadletter_test

import (
	"fmt"
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

func effects(t *testing.T, pool *pgxpool.Pool) int {
	t.Helper()
	var n int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM child_profile`).Scan(&n))
	return n
}

func letters(t *testing.T, pool *pgxpool.Pool) int {
	t.Helper()
	var n int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM aggregator.dead_letter`).Scan(&n))
	return n
}

// add writes letters of a source, created so long ago.
func add(t *testing.T, pool *pgxpool.Pool, source string, age time.Duration, letters ...deadletter.Content) {
	t.Helper()
	var batch pgx.Batch
	deadletter.Queue(&batch, source, letters)
	for _, l := range letters {
		batch.Queue(`UPDATE aggregator.dead_letter SET created_at = now() - $1 * interval '1 second'
			WHERE source = $2 AND position_ms = $3 AND position_seq = $4`, age.Seconds(), source, l.Position.Ms, l.Position.Seq)
	}
	require.NoError(t, pool.SendBatch(t.Context(), &batch).Close())
}

func unknown(reason events.Reason, ms, profile, book int64) deadletter.Content {
	event, _, _ := events.Decoder{}.Decode(
		events.Payload{Bytes: fmt.Appendf(nil, "%d:%d:LIKE", profile, book), Form: events.FormEvent})
	event.Position = at(ms, 0)
	return deadletter.Unapplied(event, reason, "not there")
}

func rejected(reason events.Reason, ms int64) deadletter.Content {
	return deadletter.Rejected(events.Rejection{
		Position: at(ms, 0), Reason: reason, Detail: "bad",
		Payload: events.Payload{Bytes: []byte{0xff, 0}, Form: events.FormEvent},
	})
}

func chosen(t *testing.T, pool *pgxpool.Pool, f deadletter.Filter) []string {
	t.Helper()
	ids := []string{}
	for page, err := range deadletter.Pages(t.Context(), pool, f, 2) {
		require.NoError(t, err)
		require.LessOrEqual(t, len(page), 2)
		for _, l := range page {
			ids = append(ids, l.ID().String())
		}
	}
	n, err := deadletter.Count(t.Context(), pool, f)
	require.NoError(t, err)
	assert.EqualValues(t, len(ids), n)
	return ids
}

func TestLetterFilters(t *testing.T) {
	pool := connect(t)
	add(t, pool, "a", time.Hour, unknown(events.UnknownProfile, 1, 1, 1), unknown(events.UnknownBook, 2, 2, 9))
	add(t, pool, "b", time.Minute, rejected(events.Malformed, 1), unknown(events.UnknownProfile, 3, 1, 1))
	add(t, pool, "a", 2*time.Hour, rejected(events.OutOfRange, 7))
	_, err := deadletter.Drop(t.Context(), pool, []deadletter.ID{{Source: "a", Position: at(2, 0)}})
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(),
		`WITH b AS (INSERT INTO book (id, title) VALUES (1, '')) INSERT INTO child_profile (id, name) VALUES (1, ''), `+
			`(2, '')`)
	require.NoError(t, err)
	one := int64(1)
	for _, c := range []struct {
		name   string
		filter deadletter.Filter
		want   []string
	}{
		{"not settled, oldest first", deadletter.Filter{}, []string{"a 7-0", "a 1-0", "b 1-0", "b 3-0"}},
		{"settled too", deadletter.Filter{Settled: true}, []string{"a 7-0", "a 1-0", "a 2-0", "b 1-0", "b 3-0"}},
		{"newest first", deadletter.Filter{Newest: true}, []string{"b 3-0", "b 1-0", "a 1-0", "a 7-0"}},
		{
			"until a time",
			deadletter.Filter{Until: time.Now().Add(-30 * time.Minute), Newest: true},
			[]string{"a 1-0", "a 7-0"},
		},
		{"reason", deadletter.Filter{Reasons: []events.Reason{events.UnknownProfile}}, []string{"a 1-0", "b 3-0"}},
		{
			"reasons",
			deadletter.Filter{Reasons: []events.Reason{events.Malformed, events.OutOfRange}},
			[]string{"a 7-0", "b 1-0"},
		},
		{"old", deadletter.Filter{OlderThan: 30 * time.Minute}, []string{"a 7-0", "a 1-0"}},
		{"new", deadletter.Filter{NewerThan: 30 * time.Minute}, []string{"b 1-0", "b 3-0"}},
		{"between", deadletter.Filter{OlderThan: 30 * time.Minute, NewerThan: 90 * time.Minute}, []string{"a 1-0"}},
		{"profile", deadletter.Filter{ProfileID: &one}, []string{"a 1-0", "b 3-0"}},
		{"source", deadletter.Filter{Sources: []string{"b"}}, []string{"b 1-0", "b 3-0"}},
		{"known by now", deadletter.Filter{Known: true}, []string{"a 1-0", "b 3-0"}},
		{"all at once", deadletter.Filter{
			Reasons: []events.Reason{events.UnknownProfile}, OlderThan: time.Second, NewerThan: time.Hour / 2,
			ProfileID: &one, Sources: []string{"a", "b"}, Settled: true, Known: true,
		}, []string{"b 3-0"}},
		{"none", deadletter.Filter{Sources: []string{"c"}}, []string{}},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, chosen(t, pool, c.filter)) })
	}
}

// Letters that PostgreSQL dated when its clock was ahead are seen, and are as young as can be.
func TestLettersOfTheFuture(t *testing.T) {
	pool := connect(t)
	add(t, pool, "s", time.Hour, rejected(events.Malformed, 1))
	add(t, pool, "s", -24*time.Hour, rejected(events.Malformed, 2), rejected(events.Malformed, 3))
	add(t, pool, "s", -365*24*time.Hour, rejected(events.Malformed, 4))
	_, err := deadletter.Drop(t.Context(), pool, []deadletter.ID{{Source: "s", Position: at(4, 0)}})
	require.NoError(t, err)
	require.Equal(t, []string{"s 1-0", "s 2-0", "s 3-0"}, chosen(t, pool, deadletter.Filter{}))
	require.Equal(t, []string{"s 1-0", "s 2-0", "s 3-0", "s 4-0"}, chosen(t, pool, deadletter.Filter{Settled: true}))
	require.Equal(t, []string{"s 2-0", "s 3-0"}, chosen(t, pool, deadletter.Filter{NewerThan: time.Minute}))
	require.Equal(t, []string{"s 1-0"}, chosen(t, pool, deadletter.Filter{OlderThan: time.Minute}))
}

// Paging ends although letters are written all the time, and stops when it is told to.
func TestLetterPagesEnd(t *testing.T) {
	pool := connect(t)
	for ms := range int64(5) {
		add(t, pool, "s", 0, rejected(events.Malformed, ms+1))
	}
	seen := 0
	for page, err := range deadletter.Pages(t.Context(), pool, deadletter.Filter{}, 1) {
		require.NoError(t, err)
		seen += len(page)
		add(t, pool, "s", 0, rejected(events.Malformed, int64(100+seen)))
	}
	assert.Equal(t, 5, seen)
	for _, err := range deadletter.Pages(t.Context(), pool, deadletter.Filter{}, 1) {
		require.NoError(t, err)
		break
	}
	pool.Close()
	errors := 0
	for page, err := range deadletter.Pages(t.Context(), pool, deadletter.Filter{}, 1) {
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
	add(t, pool, "s", 0, letter)
	got, err := deadletter.Find(t.Context(), pool, deadletter.ID{Source: "s", Position: at(5, 0)})
	require.NoError(t, err)
	assert.Equal(t, letter, got.Content)
	assert.Zero(t, got.Attempts)
	assert.Nil(t, got.Settled)
	_, err = deadletter.Find(t.Context(), pool, deadletter.ID{Source: "s", Position: at(5, 1)})
	require.ErrorIs(t, err, deadletter.ErrNone)
}

// apply settles a letter, and returns the SQLSTATE if it is refused.
func apply(t *testing.T, pool *pgxpool.Pool, id deadletter.ID, profile int64) string {
	t.Helper()
	var batch pgx.Batch
	deadletter.QueueApplied(&batch, id, events.Event{ProfileID: profile, BookID: 4})
	batch.Queue(`INSERT INTO child_profile (name) VALUES ('what the transaction does')`)
	err := postgres.SendDurably(t.Context(), pool, &batch)
	if err == nil {
		return ""
	}
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	return pg.Code
}

func TestApplyingSettlesOnce(t *testing.T) {
	pool := connect(t)
	add(t, pool, "s", 0, unknown(events.UnknownBook, 5, 1, 4), rejected(events.UnknownAction, 6))
	one, two := deadletter.ID{Source: "s", Position: at(5, 0)}, deadletter.ID{Source: "s", Position: at(6, 0)}
	_, err := pool.Exec(t.Context(), `
INSERT INTO aggregator.mark (source, child_profile_id, position_ms, position_seq, applied) VALUES ('s', 1, 5, 0, 1)`)
	require.NoError(t, err)
	was := effects(t, pool)
	require.NoError(t, deadletter.Attempted(t.Context(), pool, one, "why"))
	require.Empty(t, apply(t, pool, one, 1))
	require.Equal(t, deadletter.AlreadySettled, apply(t, pool, one, 1))
	missing := deadletter.ID{Source: "s", Position: at(5, 1)}
	require.Equal(t, deadletter.AlreadySettled, apply(t, pool, missing, 1), "not there")
	require.Equal(t, was+1, effects(t, pool))
	require.NoError(t, deadletter.Attempted(t.Context(), pool, one, "too late"))
	got, err := deadletter.Find(t.Context(), pool, one)
	require.NoError(t, err)
	assert.Equal(t, "applied", got.SettledAs)
	assert.Equal(t, 2, got.Attempts)
	assert.Nil(t, got.LastError)
	dropped, err := deadletter.Drop(t.Context(), pool, []deadletter.ID{one, two, two})
	require.NoError(t, err)
	assert.EqualValues(t, 1, dropped)
	require.Equal(t, deadletter.AlreadySettled, apply(t, pool, two, 1))

	var applied, position int64
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT applied, position_ms FROM aggregator.mark`).Scan(
		&applied, &position))
	assert.EqualValues(t, 1, applied)
	assert.EqualValues(t, 5, position)
}

// A profile without a mark gets one that passes nothing.
func TestApplyingMakesAMark(t *testing.T) {
	pool := connect(t)
	add(t, pool, "s", 0, rejected(events.UnknownAction, 6))
	from, err := ledger.Create(t.Context(), pool, "s", at(7, 0), 2)
	require.NoError(t, err)
	require.Empty(t, apply(t, pool, deadletter.ID{Source: "s", Position: at(6, 0)}, 1))
	marks, err := ledger.Marks(t.Context(), pool, from, []int64{1, 2})
	require.NoError(t, err)
	require.Equal(t, map[int64]events.Position{1: {}}, marks)
}

// The indexes serve what they are made for, however many letters are settled or junk.
func TestLetterIndexes(t *testing.T) {
	pool := connect(t)
	_, err := pool.Exec(t.Context(), `
INSERT INTO aggregator.dead_letter (source, position_ms, position_seq, child_profile_id, book_id, reason, payload,
	payload_form, created_at, settled_at, settled_as)
SELECT 's', i, 0, i, i, CASE i % 50 WHEN 0 THEN 'unknown_book' ELSE 'malformed' END, '', 'event',
	now() - i * interval '1 second',
    CASE WHEN i % 3 = 0 THEN now() END, CASE WHEN i % 3 = 0 THEN 'dropped' END
FROM generate_series(1, 20000) i`)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `ANALYZE aggregator.dead_letter`)
	require.NoError(t, err)
	for _, tc := range []struct {
		index  string
		least  int64 // scans
		filter deadletter.Filter
	}{
		{"dead_letter_unsettled", 2, deadletter.Filter{}}, // one is for the latest letter
		{"dead_letter_unknown", 1, deadletter.Filter{Known: true, NewerThan: 10 * time.Minute, Sources: []string{"s"}}},
	} {
		for _, err := range deadletter.Pages(t.Context(), pool, tc.filter, 100) {
			require.NoError(t, err)
			break
		}
		var scans int64
		pool.Reset() // a connection tells its counts when it ends
		require.Eventually(t, func() bool {
			require.NoError(t, pool.QueryRow(
				t.Context(), `SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = $1`, tc.index).Scan(&scans))
			return scans >= tc.least
		}, 20*time.Second, 10*time.Millisecond, tc.index)
	}
}

// In the order of positions, whenever they were written, and along an index.
func TestLettersByPosition(t *testing.T) {
	pool := connect(t)
	add(t, pool, "b", 3*time.Hour, rejected(events.Malformed, 20), rejected(events.Malformed, 3))
	add(t, pool, "a", time.Hour, rejected(events.Malformed, 9), rejected(events.Malformed, 100))
	add(t, pool, "a", 2*time.Hour, rejected(events.Malformed, 10))
	require.Equal(t, []string{"a 9-0", "a 10-0", "a 100-0", "b 3-0", "b 20-0"},
		chosen(t, pool, deadletter.Filter{ByPosition: true}))
	require.Equal(t, []string{"b 3-0", "b 20-0", "a 10-0", "a 9-0", "a 100-0"}, chosen(t, pool, deadletter.Filter{}))

	rows, _ := pool.Query(t.Context(),
		`EXPLAIN SELECT * FROM aggregator.dead_letter d WHERE coalesce(d.settled_at, 'infinity') = 'infinity'
		AND (d.source, d.position_ms, d.position_seq) > ('a', 9, 0) ORDER BY d.source, d.position_ms, d.position_seq
			LIMIT 100`)
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(plan), "Index Scan using dead_letter_unsettled_position")
	require.NotContains(t, fmt.Sprint(plan), "Sort")
}

func TestQueue(t *testing.T) {
	pool := connect(t)
	state := "23514"
	event, _, _ := events.Decoder{}.Decode(events.Payload{Bytes: []byte("1:2:LIKE"), Form: events.FormEvent})
	event.Position = at(2, 0)
	refused := deadletter.Unapplied(event, events.DataError, "too much")
	refused.SQLState = &state
	list := []deadletter.Content{
		deadletter.Rejected(events.Rejection{
			Position: at(1, 0), Reason: events.InvalidUTF8, Detail: "junk",
			Payload: events.Payload{Bytes: []byte("\x00\xff'\\"), Form: events.FormEntry},
		}),
		refused,
		deadletter.Rejected(events.Rejection{
			Position: at(3, 0), Reason: events.Malformed, Payload: events.Payload{Form: events.FormEvent},
		}),
	}
	for range 2 { // safe to repeat
		var batch pgx.Batch
		deadletter.Queue(&batch, "s", list)
		require.NoError(t, pool.SendBatch(t.Context(), &batch).Close())
	}
	require.Equal(t, 3, letters(t, pool))
	var payload []byte
	var reason, sqlstate string
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT payload FROM aggregator.dead_letter WHERE position_ms = 1`).Scan(
		&payload))
	assert.Equal(t, []byte("\x00\xff'\\"), payload)
	require.NoError(t, pool.QueryRow(
		t.Context(), `SELECT reason, sqlstate FROM aggregator.dead_letter WHERE child_profile_id = 1 AND book_id = 2`).Scan(
		&reason, &sqlstate))
	assert.Equal(t, "data_error 23514", reason+" "+sqlstate)
	var none pgx.Batch
	deadletter.Queue(&none, "s", nil)
	assert.Zero(t, none.Len())
}

func TestPage(t *testing.T) {
	pool := connect(t)
	add(t, pool, "a", time.Hour, rejected(events.Malformed, 1), rejected(events.Malformed, 2))
	add(t, pool, "b", time.Minute, rejected(events.Malformed, 1))
	for _, newest := range []bool{false, true} {
		filter := deadletter.Filter{Newest: newest}
		want := chosen(t, pool, filter)
		var got []string
		var after *deadletter.ID
		for more := true; more; {
			page, left, err := deadletter.Page(t.Context(), pool, filter, after, 1)
			require.NoError(t, err)
			require.Len(t, page, 1)
			after, more = new(page[0].ID()), left
			got = append(got, after.String())
		}
		assert.Equal(t, want, got)
	}
	_, _, err := deadletter.Page(t.Context(), pool, deadletter.Filter{}, &deadletter.ID{Source: "gone"}, 1)
	assert.ErrorIs(t, err, deadletter.ErrNone)
}

// A record says what was chosen, and nothing of a child.
func TestChoice(t *testing.T) {
	profile := int64(4711)
	one := deadletter.ID{Source: "a", Position: at(1, 0)}
	assert.Equal(t, "the dead letter a 1-0", deadletter.Choice{One: &one}.String())
	assert.Equal(t, "dead letters", deadletter.Choice{}.String())
	assert.Equal(t, "dead letters of reason malformed, unknown_book of source a of one profile older than 1h0m0s "+
		"newer than 2h0m0s at most 3", deadletter.Choice{Limit: 3, Filter: deadletter.Filter{
		Reasons: []events.Reason{events.Malformed, events.UnknownBook}, Sources: []string{"a"}, ProfileID: &profile,
		OlderThan: time.Hour, NewerThan: 2 * time.Hour,
	}}.String())
}
