package workload

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// lively are settings in which everything occurs.
func lively() Settings {
	s := Defaults()
	s.Count, s.Profiles, s.Books = 20_000, 100, 300
	s.ProfileDist, s.BookDist = Zipf, Zipf
	s.Partitions = 4
	s.Malformed, s.Unknown, s.Duplicates = 0.1, 0.1, 0.2
	return s
}

func open(t *testing.T, s Settings) Source {
	t.Helper()
	source, err := Open(s)
	require.NoError(t, err)
	return source
}

func TestEventsDependOnSettingsAndIndexAlone(t *testing.T) {
	s := lively()
	forwards, backwards := open(t, s), open(t, s)
	seen := make([]Event, s.Count)
	for i := range s.Count {
		seen[i] = forwards.At(i)
	}
	for i := s.Count - 1; i >= 0; i-- {
		require.Equal(t, seen[i], backwards.At(i), "event %d", i)
	}
}

func TestEventsSurviveTheJournal(t *testing.T) {
	s := lively()
	text, err := json.Marshal(s)
	require.NoError(t, err)
	var read Settings
	require.NoError(t, json.Unmarshal(text, &read))
	require.Equal(t, s, read)
}

// A verifier of a later version must know what an older one pushed.
func TestMeaningOfASeedStays(t *testing.T) {
	s := Defaults()
	s.Count = 5
	source := open(t, s)
	var texts []string
	for i := range s.Count {
		texts = append(texts, source.At(i).Text())
	}
	require.Equal(t, []string{
		"183:2040:LIKE", "7360:2899:LIKE", "5378:2693:LIKE", "6967:902:LIKE", "3741:8835:LIKE",
	}, texts)
}

func TestSeedsDiffer(t *testing.T) {
	s := Defaults()
	s.Count = 1000
	one := open(t, s)
	s.Seed = 2
	two := open(t, s)
	same := 0
	for i := range s.Count {
		if one.At(i).Text() == two.At(i).Text() {
			same++
		}
	}
	require.Less(t, same, 5)
}

func TestSharesAreKept(t *testing.T) {
	s := Defaults()
	s.Count, s.Malformed, s.Unknown, s.LikeRatio = 100_000, 0.05, 0.1, 0.7
	source := open(t, s)
	var junk, unknown, likes int
	for i := range s.Count {
		switch e := source.At(i); {
		case e.Junk != "":
			junk++
		case e.Profile < 1 || e.Profile > s.Profiles || e.Book < 1 || e.Book > s.Books:
			unknown++
		case e.Like:
			likes++
		}
	}
	require.InDelta(t, 5_000, junk, 400)
	require.InDelta(t, 10_000, unknown, 500)
	require.InDelta(t, 0.7*85_000, likes, 1_000)
}

func TestDuplicatesRepeatTheEventBefore(t *testing.T) {
	s := Defaults()
	s.Count, s.Duplicates = 50_000, 0.3
	source := open(t, s)
	repeated := 0
	for i := int64(1); i < s.Count; i++ {
		if source.At(i).Text() == source.At(i-1).Text() {
			repeated++
		}
	}
	require.InDelta(t, 15_000, repeated, 600)
}

func TestEventsGoToTheirProfilesPartition(t *testing.T) {
	s := lively()
	source := open(t, s)
	used := map[int]bool{}
	for i := range s.Count {
		e := source.At(i)
		used[e.Partition] = true
		require.Less(t, e.Partition, s.Partitions)
		if e.Junk == "" {
			require.Equal(t, int(e.Profile%4), e.Partition)
		}
	}
	require.Len(t, used, 4)
}

func TestFormsOfAnEvent(t *testing.T) {
	e := Event{Profile: 10008, Book: 674, Like: true}
	require.Equal(t, "10008:674:LIKE", e.Text())
	require.Equal(t, []string{"event", "10008:674:LIKE"}, e.Fields())
	form, payload := e.Payload()
	require.Equal(t, FormEvent, form)
	require.Equal(t, "10008:674:LIKE", string(payload))

	e = Event{Profile: 7, Book: 8, asFields: true}
	require.Equal(t, []string{"child_profile_id", "7", "book_id", "8", "action", "DISLIKE"}, e.Fields())
	form, payload = e.Payload()
	require.Equal(t, FormEntry, form)
	require.Equal(
		t, "*6\r\n$16\r\nchild_profile_id\r\n$1\r\n7\r\n$7\r\nbook_id\r\n$1\r\n8\r\n$6\r\naction\r\n$7\r\nDISLIKE\r\n",
		string(payload))
}

func TestWrongSettingsAreRefused(t *testing.T) {
	cases := map[string]func(*Settings){
		"kind":           func(s *Settings) { s.Kind = "set" },
		"side":           func(s *Settings) { s.PushSide = "top" },
		"wire":           func(s *Settings) { s.Wire = "xml" },
		"list of fields": func(s *Settings) { s.Kind, s.Wire = List, WireFields },
		"partitions":     func(s *Settings) { s.Partitions = 0 },
		"count":          func(s *Settings) { s.Count = -1 },
		"profiles":       func(s *Settings) { s.Profiles = 0 },
		"books":          func(s *Settings) { s.Books = -3 },
		"distribution":   func(s *Settings) { s.BookDist = "normal" },
		"theta":          func(s *Settings) { s.ProfileDist, s.Theta = Zipf, 1 },
		"share":          func(s *Settings) { s.LikeRatio = 1.1 },
		"sum of shares":  func(s *Settings) { s.Malformed, s.Unknown = 0.6, 0.6 },
		"duplicates":     func(s *Settings) { s.Duplicates = 1 },
		"junk size":      func(s *Settings) { s.JunkSize = -1 },
		"no such file":   func(s *Settings) { s.Replay = "no/such/file.csv" },
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			s := Defaults()
			spoil(&s)
			_, err := Open(s)
			require.Error(t, err)
		})
	}
}

func BenchmarkAt(b *testing.B) {
	s := Defaults()
	s.ProfileDist, s.BookDist = Zipf, Zipf
	source, err := Open(s)
	require.NoError(b, err)
	for i := range b.N {
		_ = source.At(int64(i)).Text()
	}
}
