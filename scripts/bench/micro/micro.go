// Package micro runs the Go benchmarks of the project's packages.
package micro

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

	"aggregator/scripts/bench/results"
)

// Packages are those whose benchmarks say something of the daemon's own work.
var Packages = []string{"aggregator/internal/events", "aggregator/internal/scores", "aggregator/internal/aggregator"}

// Run runs all benchmarks so often each. It needs the go command, in the module.
func Run(ctx context.Context, times int) ([]results.Micro, error) {
	args := append([]string{"test", "-run", "^$", "-bench", ".", "-benchmem", "-count", strconv.Itoa(times)}, Packages...)
	cmd := exec.CommandContext(ctx, "go", args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go test -bench: %w\n%s%s", err, out, said.Bytes())
	}
	return Parse(out)
}

// processors is what Go puts behind the name of a benchmark that ran on more than one.
var processors = regexp.MustCompile(`-\d+$`)

// Parse reads what `go test -bench` prints: of each benchmark, all figures by unit.
func Parse(output []byte) (all []results.Micro, err error) {
	place := map[string]int{}
	lines := bufio.NewScanner(bytes.NewReader(output))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || len(fields)%2 != 0 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(processors.ReplaceAllString(fields[0], ""), "Benchmark")
		at, known := place[name]
		if !known {
			at, place[name] = len(all), len(all)
			all = append(all, results.Micro{Name: name, Figures: map[string][]float64{}})
		}
		for i := 2; i < len(fields); i += 2 {
			figure, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, fmt.Errorf("reading %q: %w", lines.Text(), err)
			}
			all[at].Figures[fields[i+1]] = append(all[at].Figures[fields[i+1]], figure)
		}
	}
	return all, lines.Err()
}
