package micro

import (
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/scripts/bench/results"
)

func TestParse(t *testing.T) {
	all, err := Parse([]byte(`goos: linux
pkg: aggregator/internal/events
BenchmarkParse-2   	 3564259	       102.4 ns/op	       0 B/op	       0 allocs/op
BenchmarkParse-2   	 3564259	       104 ns/op	       0 B/op	       0 allocs/op
BenchmarkRead/a-b-16         	      99	   3318738 ns/op	      3319 ns/event
PASS
ok  	aggregator/internal/events	1.204s
`))
	require.NoError(t, err)
	require.Equal(t, []results.Micro{
		{Name: "Parse", Figures: map[string][]float64{"ns/op": {102.4, 104}, "B/op": {0, 0}, "allocs/op": {0, 0}}},
		{Name: "Read/a-b", Figures: map[string][]float64{"ns/op": {3318738}, "ns/event": {3319}}},
	}, all)
}
