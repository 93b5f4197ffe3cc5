package workload

import (
	"fmt"
	"math"
)

// Settings describe a workload completely: two equal values make equal events. They are
// written into files of acknowledgements as JSON, so names must stay.
type Settings struct {
	Count       int64   `json:"count"`
	Kind        string  `json:"kind"`
	Key         string  `json:"key"` // empty: the kind's default
	PushSide    string  `json:"push_side"`
	Wire        string  `json:"wire"`
	Partitions  int     `json:"partitions"`
	Profiles    int64   `json:"profiles"`
	Books       int64   `json:"books"`
	ProfileDist string  `json:"profile_dist"`
	BookDist    string  `json:"book_dist"`
	Theta       float64 `json:"theta"`
	LikeRatio   float64 `json:"like_ratio"`
	Malformed   float64 `json:"malformed"`  // share of junk
	Unknown     float64 `json:"unknown"`    // share with an unknown profile or book
	Duplicates  float64 `json:"duplicates"` // share that repeats the event before
	JunkSize    int     `json:"junk_size"`  // bytes of the big pieces of junk; 0: none
	Seed        uint64  `json:"seed"`

	// Replay is a file of ratings to push in place of made-up events; then the settings
	// of ids and shares have no meaning.
	Replay string `json:"replay,omitempty"`
}

// Defaults are a small likely load.
func Defaults() Settings {
	return Settings{
		Kind: Stream, PushSide: Left, Wire: WireEvent, Partitions: 1, Profiles: 10_000, Books: 10_000,
		ProfileDist: Uniform, BookDist: Uniform, Theta: 0.99, LikeRatio: 0.8, Seed: 1,
	}
}

// Keys are the keys to push to, by partition.
func (s Settings) Keys() []string {
	if s.Key == "" {
		return Keys(DefaultKey(s.Kind), s.Partitions)
	}
	return Keys(s.Key, s.Partitions)
}

// Streams are the names by which the aggregator knows the keys, by partition.
func (s Settings) Streams() []string {
	streams := s.Keys()
	for p, key := range streams {
		streams[p] = StreamOf(s.Kind, key)
	}
	return streams
}

// Open makes the events of the settings, or says which setting is wrong. For a replay it
// reads the file.
func Open(s Settings) (Source, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if s.Replay != "" {
		ratings, err := ReadRatings(s.Replay)
		if err != nil {
			return nil, err
		}
		return ratings.events(s), nil
	}
	return newMadeUp(s)
}

func (s Settings) check() error {
	shares := []struct {
		name  string
		value float64
	}{{"like-ratio", s.LikeRatio}, {"malformed", s.Malformed}, {"unknown", s.Unknown}, {"duplicates", s.Duplicates}}
	for _, share := range shares {
		if math.IsNaN(share.value) || share.value < 0 || share.value > 1 {
			return fmt.Errorf("%s must lie between 0 and 1, not %v", share.name, share.value)
		}
	}
	switch {
	case s.Kind != Stream && s.Kind != List:
		return fmt.Errorf("unknown kind %q: %s or %s", s.Kind, Stream, List)
	case s.PushSide != Left && s.PushSide != Right:
		return fmt.Errorf("unknown push-side %q: %s or %s", s.PushSide, Left, Right)
	case s.Wire != WireEvent && s.Wire != WireFields:
		return fmt.Errorf("unknown wire %q: %s or %s", s.Wire, WireEvent, WireFields)
	case s.Kind == List && s.Wire == WireFields:
		return fmt.Errorf("a list has no fields: wire %s is for streams", WireFields)
	case s.Partitions < 1:
		return fmt.Errorf("partitions must be at least 1, not %d", s.Partitions)
	case s.Count < 0:
		return fmt.Errorf("count must not be negative, but is %d", s.Count)
	case s.Malformed+s.Unknown > 1:
		return fmt.Errorf("malformed and unknown together are more than 1")
	case s.Duplicates > 0.99:
		return fmt.Errorf("duplicates must be at most 0.99, not %v", s.Duplicates)
	case s.JunkSize < 0 || s.JunkSize > 512<<20:
		return fmt.Errorf("junk-size must lie between 0 and 512 MiB, not %d", s.JunkSize)
	}
	return nil
}
