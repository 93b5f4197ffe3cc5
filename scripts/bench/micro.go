package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"aggregator/scripts/bench/report"
)

// partMicro runs the Go benchmarks of the packages given. It needs the go command, at the root of the project.
func (b *bench) partMicro(ctx context.Context) error {
	if b.micro == "" {
		b.log("  left out: no packages are given")
		return nil
	}
	args := []string{"test", "-run", "^$", "-bench", ".", "-benchmem", "-count", fmt.Sprint(b.runs)}
	args = append(args, strings.Fields(b.micro)...)
	cmd := exec.CommandContext(ctx, "go", args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go test -bench: %w\n%s%s", err, out, said.Bytes())
	}
	p := report.Part{When: time.Now().UTC().Truncate(time.Second)}
	if p.Series, err = benchmarks(string(out)); err == nil {
		b.keep("micro", p)
	}
	return err
}

// processors is what Go puts behind the name of a benchmark that ran on more than one.
var processors = regexp.MustCompile(`-\d+$`)

// benchmarks reads what `go test -bench` prints: of each benchmark, all figures by unit.
func benchmarks(output string) (all []report.Series, err error) {
	for line := range strings.Lines(output) {
		fields := strings.Fields(line)
		if len(fields) < 4 || len(fields)%2 != 0 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		run := map[string]float64{}
		for i := 2; i < len(fields); i += 2 {
			if run[fields[i+1]], err = strconv.ParseFloat(fields[i], 64); err != nil {
				return nil, fmt.Errorf("reading %q: %w", line, err)
			}
		}
		name := strings.TrimPrefix(processors.ReplaceAllString(fields[0], ""), "Benchmark")
		if n := len(all); n == 0 || all[n-1].Contender != name {
			all = append(all, report.Series{Contender: name})
		}
		all[len(all)-1].Runs = append(all[len(all)-1].Runs, run)
	}
	if len(all) == 0 {
		err = errors.New("go test -bench printed no benchmark")
	}
	return all, err
}
