package workload

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKeysAndStreams(t *testing.T) {
	cases := map[string]struct {
		settings      Settings
		keys, streams []string
	}{
		"stream": {
			Settings{Kind: Stream, Partitions: 1},
			[]string{"book-like-events"},
			[]string{"book-like-events"},
		},
		"stream in two": {
			Settings{Kind: Stream, Partitions: 2},
			[]string{"book-like-events:{0}", "book-like-events:{1}"},
			[]string{"book-like-events:{0}", "book-like-events:{1}"},
		},
		"list": {
			Settings{Kind: List, Partitions: 1},
			[]string{"BookLikeEventList"},
			[]string{"{BookLikeEventList}:stream"},
		},
		"list in two": {
			Settings{Kind: List, Key: "l", Partitions: 2},
			[]string{"l:{0}", "l:{1}"},
			[]string{"l:{0}:stream", "l:{1}:stream"},
		},
		"list with a tag":  {Settings{Kind: List, Key: "{a}l", Partitions: 1}, []string{"{a}l"}, []string{"{a}l:stream"}},
		"list, empty tag":  {Settings{Kind: List, Key: "a{}l", Partitions: 1}, []string{"a{}l"}, []string{"{a{}l}:stream"}},
		"list, lone brace": {Settings{Kind: List, Key: "a}{l", Partitions: 1}, []string{"a}{l"}, []string{"{a}{l}:stream"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.keys, c.settings.Keys())
			require.Equal(t, c.streams, c.settings.Streams())
		})
	}
}
