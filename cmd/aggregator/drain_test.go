package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// A drain says of each source that had something what its time was spent on.
func TestDrainReportsPhases(t *testing.T) {
	s := newPair(t)
	s.exec(`INSERT INTO child_profile (id, name) VALUES (2, 'd')`)
	s.push("1:1:LIKE", "2:1:LIKE", "1:1:LIKE")
	r := s.program("drain", "-o", "json")
	require.Zero(t, r.code, r.stderr)
	var report struct {
		ElapsedSeconds float64 `json:"elapsed_seconds"`
		Sources        []struct {
			Source       string
			Chunks       int
			Transactions int
			P50          float64 `json:"transaction_p50_seconds"`
			P95          float64 `json:"transaction_p95_seconds"`
			Phases       []struct {
				Name    string
				Seconds float64
				From    float64 `json:"from_seconds"`
				To      float64 `json:"to_seconds"`
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &report))
	require.Len(t, report.Sources, 1)
	source := report.Sources[0]
	require.Equal(t, "book-like-events", source.Source)
	require.Equal(t, []int{1, 2}, []int{source.Chunks, source.Transactions})
	require.Positive(t, source.P50)
	require.GreaterOrEqual(t, source.P95, source.P50)
	var names []string
	for _, p := range source.Phases {
		names = append(names, p.Name)
		require.Positive(t, p.Seconds, p.Name)
		require.Less(t, p.From, p.To, p.Name)
		require.LessOrEqual(t, p.To, report.ElapsedSeconds, p.Name)
	}
	require.Equal(t, []string{"read", "look_up", "apply", "checkpoint", "trim"}, names)

	require.Contains(t, s.program("drain", "-o", "json").stdout, `"sources": [],`)
	nothing := s.program("drain")
	nothing.requireDone(t)
	require.Equal(t, "nothing to drain\n", nothing.stdout)
	require.Equal(t, "nothing to drain\n", s.onTerminal(80, nil, "drain"), "no bar is left standing")
	s.push("1:1:LIKE")
	require.Regexp(t, `(?m)^time of source book-like-events, in seconds:
  read [0-9.]+, look up [0-9.]+, apply [0-9.]+, checkpoint [0-9.]+, trim [0-9.]+
  1 transaction: p50 [0-9.]+ ms, p95 [0-9.]+ ms$`, s.program("drain").stdout)

	s.push("junk")
	junk := s.program("drain")
	require.Zero(t, junk.code)
	require.Regexp(t, `^drained 1 event in `, junk.stdout)
	require.Contains(t, junk.stdout, "no event could be applied: aggregator dead list shows why\n")
}
