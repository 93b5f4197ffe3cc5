package events

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var (
	weights = map[string]float64{"LIKE": 2, "DISLIKE": -2}
	decoder = NewDecoder(weights)
	like    = decoder.actions["LIKE"]
	dislike = decoder.actions["DISLIKE"]
)

func TestParse(t *testing.T) {
	good := map[string]Event{
		"10008:674:LIKE": {ProfileID: 10008, BookID: 674, Action: like},
		"1:2:DISLIKE":    {ProfileID: 1, BookID: 2, Action: dislike},
		"0:0:LIKE":       {},
		"9223372036854775807:9223372036854775807:LIKE": {ProfileID: 1<<63 - 1, BookID: 1<<63 - 1, Action: like},
		"007:8:LIKE": {ProfileID: 7, BookID: 8, Action: like},
	}
	good["0:0:LIKE"] = Event{Action: like}
	for text, want := range good {
		t.Run(text, func(t *testing.T) {
			got, reason, _ := decoder.Parse([]byte(text))
			require.Empty(t, reason)
			assert.Equal(t, want, got)
		})
	}

	bad := []struct {
		name, text string
		want       Reason
	}{
		{"empty", "", Malformed},
		{"one part", "LIKE", Malformed},
		{"two parts", "1:LIKE", Malformed},
		{"four parts", "1:2:LIKE:", Malformed},
		{"no profile", ":2:LIKE", Malformed},
		{"no book", "1::LIKE", Malformed},
		{"no action", "1:2:", Malformed},
		{"colons only", "::", Malformed},
		{"space before", " 1:2:LIKE", Malformed},
		{"space behind", "1:2:LIKE ", UnknownAction},
		{"line end", "1:2:LIKE\n", UnknownAction},
		{"plus", "+1:2:LIKE", Malformed},
		{"hexadecimal", "0x1:2:LIKE", Malformed},
		{"fraction", "1.5:2:LIKE", Malformed},
		{"exponent", "1e3:2:LIKE", Malformed},
		{"other digits", "١:2:LIKE", Malformed},
		{"lone minus", "-:2:LIKE", Malformed},
		{"minus and junk", "-x:2:LIKE", Malformed},
		{"negative profile", "-1:2:LIKE", OutOfRange},
		{"negative book", "1:-2:LIKE", OutOfRange},
		{"overflow by one", "9223372036854775808:2:LIKE", OutOfRange},
		{"overflow by far", "1:99999999999999999999999999999999:LIKE", OutOfRange},
		{"wraps around uint64", "18446744073709551617:2:LIKE", OutOfRange},
		{"unknown action", "1:2:LOVE", UnknownAction},
		{"lower case", "1:2:like", UnknownAction},
		{"null byte", "1:2:LIKE\x00", UnknownAction},
		{"invalid UTF-8", "1:2:LIKE\xff", InvalidUTF8},
		{"megabyte", strings.Repeat("x", 1<<20), Malformed},
		{"megabyte of digits", strings.Repeat("9", 1<<20) + ":1:LIKE", OutOfRange},
		{"JSON", `{"profile":1,"book":2}`, Malformed},
	}
	for _, tt := range bad {
		t.Run(tt.name, func(t *testing.T) {
			_, reason, detail := decoder.Parse([]byte(tt.text))
			assert.Equal(t, tt.want, reason)
			assert.NotEmpty(t, detail)
			assert.Less(t, len(detail), 500, "a detail is for reading")
			assert.NotContains(t, detail, "\x00", "PostgreSQL's text holds no null byte")
		})
	}
}

func TestCoalesceKeepsTheLastWordOnEachBook(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		books := rapid.SliceOf(rapid.Int64Range(1, 5)).Draw(t, "books")
		all := make([]Event, len(books))
		last := map[int64]int64{}
		for i, book := range books {
			all[i] = Event{Position: Position{Ms: int64(i + 1)}, BookID: book}
			last[book] = int64(i + 1)
		}
		kept := Coalesce(all)
		require.Len(t, kept, len(last))
		var before int64
		for _, e := range kept {
			require.Equal(t, last[e.BookID], e.Position.Ms)
			require.Greater(t, e.Position.Ms, before, "order is kept")
			before = e.Position.Ms
		}
	})
}

func TestPosition(t *testing.T) {
	for _, text := range []string{
		"", "1", "-1", "1-", "a-b", "1-2-3", "-1-2", "9223372036854775808-0", "0-18446744073709551615", "+1-1",
	} {
		_, err := ParsePosition(text)
		require.ErrorIs(t, err, ErrPosition, text)
	}
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) Position {
			half := rapid.OneOf(rapid.Int64Range(0, 3), rapid.Int64Range(1<<63-3, 1<<63-1))
			return Position{Ms: half.Draw(t, name+" ms"), Seq: half.Draw(t, name+" seq")}
		}
		p, q := draw("p"), draw("q")
		back, err := ParsePosition(p.String())
		require.NoError(t, err)
		require.Equal(t, p, back)
		require.Equal(t, p.Compare(q), -q.Compare(p))
		require.Equal(t, p == q, p.Compare(q) == 0)
		if p != (Position{Ms: 1<<63 - 1, Seq: 1<<63 - 1}) {
			require.True(t, p.next().After(p))
			require.Equal(t, p, p.next().previous())
		}
	})
}

// FuzzParse checks that whatever comes in is either an event whose parts are in the
// text, or has a reason.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"10008:674:LIKE", "1:2:DISLIKE", "", ":", "::", ":::", "1:2:", "1:2:LIKE:", "-1:2:LIKE", "1:-2:LIKE",
		"9223372036854775807:1:LIKE", "9223372036854775808:1:LIKE", "18446744073709551616:1:LIKE",
		"1:2:LIKE\x00", "\xff:\xfe:LIKE", " 1:2:LIKE", "1:2:LIKE\r\n", "١:٢:LIKE", "1:2:LIKE", "00:00:LIKE",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		event, reason, detail := decoder.Parse(text)
		if reason != "" {
			require.NotEmpty(t, detail)
			return
		}
		parts := strings.Split(string(text), ":")
		require.Len(t, parts, 3)
		require.Equal(t, parts[2], event.Action.Name)
		require.Equal(t, weights[parts[2]], event.Action.Weight)
		require.GreaterOrEqual(t, event.ProfileID, int64(0))
		require.GreaterOrEqual(t, event.BookID, int64(0))
		require.Equal(t, trimZeros(parts[0]), Position{Ms: event.ProfileID}.half())
		require.Equal(t, trimZeros(parts[1]), Position{Ms: event.BookID}.half())
	})
}

func trimZeros(digits string) string {
	if trimmed := strings.TrimLeft(digits, "0"); trimmed != "" {
		return trimmed
	}
	return "0"
}

func (p Position) half() string { return strings.TrimSuffix(p.String(), "-0") }

// FuzzDecode checks that no reply whatever makes the decoder panic, that what it does not
// accept leaves the batch where it was, and that payloads come out as they came in.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"*0\r\n", "*-1\r\n", "-LOADING Redis is loading\r\n", "$-1\r\n", "*1\r\n", "*9999999999\r\n",
		"*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$5\r\nevent\r\n$8\r\n1:2:LIKE\r\n",
		"*1\r\n*2\r\n$3\r\n1-1\r\n*6\r\n" +
			"$16\r\nchild_profile_id\r\n$1\r\n1\r\n$7\r\nbook_id\r\n$1\r\n2\r\n$6\r\naction\r\n$4\r\nLIKE\r\n",
		"*1\r\n*2\r\n$3\r\n1-1\r\n*6\r\n" +
			"$6\r\naction\r\n$4\r\nLIKE\r\n$16\r\nchild_profile_id\r\n$1\r\n1\r\n$7\r\nbook_id\r\n$2\r\n02\r\n",
		"*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$5\r\nevent\r\n$9\r\n01:2:LIKE\r\n",
		"*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$5\r\nevent\r\n$7\r\n1:2:EAT\r\n",
		"*1\r\n*2\r\n$3\r\n1-1\r\n*-1\r\n", "*1\r\n*2\r\n$3\r\n1-1\r\n-ERR in the middle\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		var b Batch
		n, err := b.decode(reply, decoder)
		if err != nil {
			require.Zero(t, b)
			return
		}
		require.Equal(t, n, b.Entries)
		require.Equal(t, n, len(b.Events)+len(b.Rejected))
		came := payloads(t, reply)
		for _, e := range b.Events {
			require.Equal(t, came[e.Position], e.Payload())
		}
		for _, r := range b.Rejected {
			require.Equal(t, came[r.Position], r.Payload)
		}
	})
}

// payloads are those of the entries of a reply, by position.
func payloads(t *testing.T, reply []byte) map[Position]Payload {
	r := resp{rest: reply}
	n, err := r.array()
	require.NoError(t, err)
	came := map[Position]Payload{}
	for range n {
		at, fields, err := r.entry()
		require.NoError(t, err)
		came[at] = decoder.entry(fields).payload
	}
	return came
}

func TestAnErrorReplyIsNotAnEmptyStream(t *testing.T) {
	for _, reply := range []string{
		"-LOADING Redis is loading the dataset in memory\r\n", "$-1\r\n", "*-1\r\n", "+OK\r\n", ":0\r\n", "", "*1\r\n",
		"_\r\n",
	} {
		var b Batch
		_, err := b.decode([]byte(reply), decoder)
		assert.Error(t, err, "%q", reply)
	}
}

// BenchmarkDecode decodes a page, in each of the two forms of an entry.
func BenchmarkDecode(b *testing.B) {
	const entries = 100
	for name, form := range map[string]*Payload{"text": usualText, "fields": usualEntry} {
		b.Run(name, func(b *testing.B) {
			reply := fmt.Appendf(nil, "*%d\r\n", entries)
			for i := range entries {
				e := Event{ProfileID: int64(10_000 + i), BookID: int64(7 * i), Action: like, kept: form}
				fields := e.Payload().Bytes
				if form == usualText {
					fields = appendBulk([]byte("*2\r\n$5\r\nevent\r\n"), fields)
				}
				reply = append(reply, "*2\r\n"...)
				reply = append(appendBulk(reply, fmt.Appendf(nil, "1790000000000-%d", i)), fields...)
			}
			batch := Batch{Events: make([]Event, 0, entries)}
			b.ReportAllocs()
			for b.Loop() {
				batch.Events, batch.Last = batch.Events[:0], Position{}
				if n, err := batch.decode(reply, decoder); n != entries || err != nil || len(batch.Events) != entries {
					b.Fatal(n, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*entries), "ns/event")
		})
	}
}
