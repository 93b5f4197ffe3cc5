package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// What push adds counts, whatever the source is.
func TestPush(t *testing.T) {
	testenv.Long(t)
	for name, tc := range map[string]struct {
		settings []string
		said     string
	}{
		"stream":     {nil, `^pushed 1:1:LIKE to book-like-events, position \d+-0\n$`},
		"list":       {[]string{"AGGREGATOR_SOURCE_KIND=list", "AGGREGATOR_SOURCE_KEY=l"}, `^pushed 1:1:LIKE to l\n$`},
		"partitions": {[]string{"AGGREGATOR_SOURCE_PARTITIONS=4"}, `^pushed 1:1:LIKE to book-like-events:\{1\}, position `},
		"right": {
			[]string{"AGGREGATOR_SOURCE_KIND=list", "AGGREGATOR_SOURCE_KEY=l", "AGGREGATOR_SOURCE_PUSH_SIDE=right"},
			`^pushed 1:1:LIKE to l\n$`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newPair(t)
			s.env = append(s.env, "AGGREGATOR_REDIS_URL="+testenv.Redis(t)) // whose default user may do all
			s.env = append(s.env, tc.settings...)
			require.Regexp(t, tc.said, s.program(strings.Fields("push 1 1 LIKE")...).stdout)
			for _, action := range []string{"LIKE", "DISLIKE", "LIKE"} {
				require.Zero(t, s.program(strings.Fields("push 1 1 "+action+" -o json")...).code)
			}
			drained := s.program(strings.Fields("drain -o json")...)
			require.Zero(t, drained.code, drained.stderr)
			require.Contains(t, drained.stdout, `"applied": 4`)
		})
	}
}

func TestPushRefuses(t *testing.T) {
	s := newPair(t)
	for args, want := range map[string]string{
		"1 1":          "want ACTION",
		"1 1 LIKE x":   `unexpected argument "x"`,
		"1 1 like":     `1:1:like would be a dead letter (unknown_action): action is "like"`,
		"one 1 LIKE":   `one:1:LIKE would be a dead letter (malformed): child_profile_id is "one"`,
		"-- 1 -1 LIKE": "1:-1:LIKE would be a dead letter (out_of_range)",
	} {
		s.program(strings.Fields("push "+args)...).requireFailure(t, 64, want)
	}
	s.program(strings.Fields("push 1 1 LIKE")...).requireFailure(t, 1, "NOPERM") // a role that may only drain
	require.Zero(t, s.redis.Exists(t.Context(), "book-like-events").Val())
}
