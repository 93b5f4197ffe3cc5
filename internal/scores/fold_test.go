package scores

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"aggregator/internal/events"
)

// book has no genre if it is below zero.
func book(genre int64, mbti string, topics ...int64) Book {
	b := Book{GenreID: genre, HasGenre: genre >= 0, Topics: topics}
	if mbti != "" {
		b.Letters, _ = ParseType(mbti)
	}
	return b
}

func TestFold(t *testing.T) {
	books := map[int64]Book{
		1: book(10, "INTJ", 100, 200),
		2: book(20, "ESFP", 100),
		3: book(-1, ""),
		5: book(0, "", 0),
		4: book(10, "ENTJ"),
	}
	event := func(book int64, weight float64) events.Event { return worth(book, weight) }
	cases := []struct {
		name    string
		events  []events.Event
		want    Delta
		unknown int
	}{
		{"nothing", nil, Delta{}, 0},
		{"a like", []events.Event{event(1, 2)}, Delta{
			Genres: []Sum{{10, 2}}, Topics: []Sum{{100, 2}, {200, 2}}, MBTI: [8]float64{2, 0, 0, 2, 2, 0, 2, 0}, Typed: true,
			Events: 1,
		}, 0},
		{"a dislike of another type", []events.Event{event(2, -2)}, Delta{
			Genres: []Sum{{20, -2}}, Topics: []Sum{{100, -2}}, MBTI: [8]float64{0, -2, -2, 0, 0, -2, 0, -2}, Typed: true,
			Events: 1,
		}, 0},
		{"repeated", []events.Event{event(4, 2), event(4, 2), event(4, 2)}, Delta{
			Genres: []Sum{{10, 6}}, MBTI: [8]float64{0, 6, 0, 6, 6, 0, 6, 0}, Typed: true, Events: 3,
		}, 0},
		{"like and dislike leave a row of nothing", []events.Event{event(1, 2), event(1, -2)}, Delta{
			Genres: []Sum{{10, 0}}, Topics: []Sum{{100, 0}, {200, 0}}, Typed: true, Events: 2,
		}, 0},
		{"a book without anything", []events.Event{event(3, 2)}, Delta{Events: 1}, 0},
		{
			"genre 0 and topic 0",
			[]events.Event{event(5, 2)},
			Delta{Genres: []Sum{{0, 2}}, Topics: []Sum{{0, 2}}, Events: 1},
			0,
		},
		{"unknown books", []events.Event{event(9, 2), event(3, 2), event(8, 2)}, Delta{Events: 1}, 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, unknown := Fold(7, c.events, books)
			c.want.ProfileID = 7
			assert.Equal(t, c.want, got)
			assert.Len(t, unknown, c.unknown)
		})
	}
}

func worth(book int64, weight float64) events.Event {
	return events.Event{BookID: book, Action: &events.Action{Weight: weight}}
}

// drawn are some events of one profile on some books, as rapid finds them. Weights are
// halves, which float64 adds exactly.
func drawn(t *rapid.T) ([]events.Event, map[int64]Book) {
	types := []string{"", "INTJ", "ESFP", "ISTP", "ENFJ"}
	books := map[int64]Book{}
	for id := range int64(rapid.IntRange(1, 6).Draw(t, "books")) {
		topics := slices.Compact(slices.Sorted(slices.Values(rapid.SliceOfN(rapid.Int64Range(1, 5), 0, 4).Draw(t, "topics"))))
		books[id] = book(rapid.Int64Range(-1, 4).Draw(t, "genre"), rapid.SampledFrom(types).Draw(t, "type"), topics...)
	}
	list := rapid.SliceOf(rapid.Custom(func(t *rapid.T) events.Event {
		return worth(rapid.Int64Range(0, 7).Draw(t, "book"), float64(rapid.IntRange(-8, 8).Draw(t, "weight"))/2)
	})).Draw(t, "events")
	for i := range list {
		list[i].Position = events.Position{Ms: int64(i + 1)}
	}
	return list, books
}

// Any split of the events into chunks adds up to the same.
func TestFoldSplits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list, books := drawn(t)
		whole, _ := Fold(1, list, books)
		sum := Delta{ProfileID: 1}
		for rest := list; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "chunk")
			part, _ := Fold(1, rest[:n], books)
			sum.Merge(part)
			rest = rest[n:]
		}
		require.Equal(t, whole, sum)
	})
}

// The order of the events does not matter.
func TestFoldOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list, books := drawn(t)
		whole, unknown := Fold(1, list, books)
		shuffled := slices.Clone(list)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		got, unknownToo := Fold(1, shuffled, books)
		require.Equal(t, whole, got)
		require.Len(t, unknownToo, len(unknown))
	})
}

func TestParseType(t *testing.T) {
	for _, good := range []string{"INTJ", "ESFP", "ISTP", "ENFJ"} {
		letters, err := ParseType(good)
		require.NoError(t, err)
		var back string
		for i := range NumLetters {
			if letters.Has(i) {
				back += LetterName(i)
			}
		}
		assert.ElementsMatch(t, []byte(good), []byte(back))
	}
	for _, bad := range []string{"", "INT", "int", "INTJP", "NITJ", "IIII", "XXXX"} {
		_, err := ParseType(bad)
		assert.Error(t, err, bad)
	}
}

// BenchmarkFold folds 100 events on 10 genres and 25 topics.
func BenchmarkFold(b *testing.B) {
	books := map[int64]Book{}
	for id := range int64(1000) {
		books[id] = book(id%10+1, "INTJ", id%25+1, (id+7)%25+1)
	}
	list := make([]events.Event, 100)
	for i := range list {
		list[i] = worth(int64(i*37%1000), 2)
	}
	b.ReportAllocs()
	for b.Loop() {
		Fold(1, list, books)
	}
}

func TestFinite(t *testing.T) {
	books := map[int64]Book{1: book(1, ""), 2: book(-1, "", 1), 3: book(-1, "INTJ")}
	for id := range books {
		delta, _ := Fold(1, []events.Event{worth(id, 1e308)}, books)
		assert.True(t, delta.Finite())
		delta, _ = Fold(1, []events.Event{worth(id, 1e308), worth(id, 1e308)}, books)
		assert.False(t, delta.Finite(), "book %d", id)
		delta.Merge(delta)
		assert.False(t, delta.Finite(), "book %d", id)
	}
}

func TestParseTypeInOtherForms(t *testing.T) {
	for text, same := range map[string]string{"INTJ ": "INTJ", "  esfp": "ESFP", "eNtJ      ": "ENTJ"} {
		got, err := ParseType(text)
		require.NoError(t, err)
		want, err := ParseType(same)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	for _, text := range []string{"", "    ", "INT", "INTJJ", "XNTJ", "I NTJ"} {
		_, err := ParseType(text)
		require.Error(t, err, text)
	}
}
