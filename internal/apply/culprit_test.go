package apply

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"

	"aggregator/internal/events"
	"aggregator/internal/ledger"
	"aggregator/internal/verdict"
)

// liked is a segment of likes of book 1, at these milliseconds.
func liked(profile int64, ms ...int64) segment {
	seg := segment{profileID: profile}
	for _, at := range ms {
		seg.events = append(seg.events, weighing(profile, 1, at, 2))
	}
	return seg
}

// weighing is an event of a weight.
func weighing(profile, book, ms int64, weight float64) events.Event {
	e, _, _ := events.NewDecoder(map[string]float64{"LIKE": weight}).Decode(events.Payload{
		Form: events.FormEvent, Bytes: fmt.Appendf(nil, "%d:%d:LIKE", profile, book),
	})
	e.Position = position(ms, 0)
	return e
}

// A call ends with the first segment that its mark has not passed, unless a refusal of ours names its profile: other
// instances move marks, too.
func TestCulprit(t *testing.T) {
	segments := []segment{liked(3, 1, 5), liked(4, 2), liked(7, 3, 4)}
	ours := func(code, profile string) *pgconn.PgError { return &pgconn.PgError{Code: code, Detail: profile} }
	data := &pgconn.PgError{Code: "23514", Detail: "4"}
	for _, c := range []struct {
		name  string
		why   *pgconn.PgError
		marks map[int64]events.Position
		want  int
	}{
		{"nothing is committed", data, nil, 0},
		{"the first is committed", data, map[int64]events.Position{3: position(5, 0)}, 1},
		{"the first is committed in part, by another", data, map[int64]events.Position{3: position(1, 0)}, 0},
		{"another came further with the first", data, map[int64]events.Position{3: position(9, 0)}, 1},
		{"two are committed", data, map[int64]events.Position{3: position(5, 0), 4: position(2, 0)}, 2},
		{"another was at the last", data, map[int64]events.Position{3: position(5, 0), 7: position(4, 0)}, 1},
		{
			"all are committed", data,
			map[int64]events.Position{3: position(5, 0), 4: position(2, 0), 7: position(4, 0)},
			3,
		},
		{"a refusal of ours", ours(verdict.MarkMoved, "4"), nil, 1},
		{"another has moved its mark past all", ours(verdict.MarkMoved, "4"), map[int64]events.Position{
			3: position(5, 0), 4: position(2, 0), 7: position(4, 0),
		}, 1},
		{"a profile that is gone", ours(verdict.ProfileGone, "7"), nil, 2},
		{"the first", ours(verdict.RowMissing, "3"), map[int64]events.Position{3: position(5, 0)}, 0},
		{"a profile that is not of the call", ours(verdict.MarkMoved, "5"), nil, 3},
		{"no profile at all", ours(verdict.MarkMoved, ""), nil, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			call := refused{unit{segments: segments, each: make([]Tally, 3)}, c.why}
			assert.Equal(t, c.want, call.culprit(c.marks))
		})
	}
}

// The mark passes what is at its position, and before; what is left begins where it is.
func TestAfter(t *testing.T) {
	for _, c := range []struct {
		mark events.Position
		left []int64
	}{
		{position(0, 0), []int64{2, 4, 6}},
		{position(1, 9), []int64{2, 4, 6}},
		{position(2, 0), []int64{4, 6}},
		{position(2, 1), []int64{4, 6}},
		{position(5, 0), []int64{6}},
		{position(6, 0), nil},
		{position(9, 0), nil},
	} {
		t.Run(c.mark.String(), func(t *testing.T) {
			whole := liked(1, 2, 4, 6)
			whole.place, whole.tried.careful = 7, true
			rest := whole.after(c.mark)
			assert.Equal(t, c.mark, rest.seen)
			assert.Equal(t, c.left, at(rest))
			assert.Equal(t, 7, rest.place)
			assert.True(t, rest.tried.careful)
			assert.Len(t, whole.events, 3, "it is as it was")
		})
	}
}

// Halves are all of the segment, and the second goes on from the mark that the first one leaves.
func TestHalves(t *testing.T) {
	for _, c := range []struct{ whole, first, second []int64 }{
		{[]int64{1, 2}, []int64{1}, []int64{2}},
		{[]int64{1, 2, 3}, []int64{1}, []int64{2, 3}},
		{[]int64{1, 2, 3, 4, 5}, []int64{1, 2}, []int64{3, 4, 5}},
	} {
		seg := liked(1, c.whole...)
		seg.seen, seg.place, seg.tried.careful = position(0, 7), 3, true
		first, second := seg.halves()
		assert.Equal(t, c.first, at(first))
		assert.Equal(t, c.second, at(second))
		assert.Equal(t, position(0, 7), first.seen)
		assert.Equal(t, first.last(), second.seen)
		for _, half := range []segment{first, second} {
			assert.Equal(t, 3, half.place)
			assert.True(t, half.tried.careful)
		}
		assert.Equal(t, len(first.events), cap(first.events), "to append to it must not write over the second")
	}
}

// The checkpoint asks for the last event of each profile, whatever was due.
func TestPlaces(t *testing.T) {
	assert.Equal(t, []ledger.Place{{ProfileID: 1, At: position(5, 0)}, {ProfileID: 9, At: position(3, 0)}},
		places([]segment{liked(1, 2, 5), liked(9, 3)}))
	assert.Equal(t, []int64{1, 9}, profileIDs([]segment{liked(1, 2), liked(9, 3)}))
	assert.Equal(t, []int64{1, 3}, bookIDs([]events.Event{{BookID: 3}, {BookID: 1}, {BookID: 3}}))
}

// at are the milliseconds of a segment's events.
func at(seg segment) (ms []int64) {
	for _, e := range seg.events {
		ms = append(ms, e.Position.Ms)
	}
	return ms
}
