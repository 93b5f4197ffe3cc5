package report

import (
	"fmt"

	"aggregator/scripts/bench/results"
)

// The names of contenders, by which they are found again.
const (
	ByDefault = "aggregator"
	Together  = "aggregator, 200 profiles per transaction"
	PureSQL   = "pure SQL"
)

// Zipf is the name of a contender in C.
func Zipf(events int64) string { return Exact(float64(events)) + " events" }

// Comparison is the table of a comparison. If pure SQL is among the contenders, times are
// also given as multiples of its own.
func Comparison(c results.Comparison) Table {
	yardstick, found := c.Find(PureSQL)
	t := Table{Head: []string{"", "runs", "seconds", "min..max", "events/s"}}
	if found {
		t.Head = append(t.Head, "× pure SQL, per event", "min..max")
	}
	t.Head = append(t.Head, "CPU s: itself", "Redis", "PostgreSQL", "peak MiB", "WAL MiB", "heap-only", "events per profile update")
	for _, s := range c.Series {
		seconds := s.Of(results.Seconds)
		row := []string{s.Contender, fmt.Sprint(len(s.Runs)), Number(seconds.Median), spread(seconds), Number(s.Of(results.PerSecond).Median)}
		if found {
			ratio := s.Against(yardstick, results.PerEvent)
			row = append(row, Number(ratio.Median), spread(ratio))
		}
		t.Add(append(row, costs(s)...)...)
	}
	return t
}

// costs are the last cells of a row of Comparison.
func costs(s results.Series) []string {
	cpu := func(of func(results.CPU) float64) string {
		return Number(s.Of(func(r results.Run) float64 { return of(r.CPU) }).Median)
	}
	known := func(figure func(results.Run) float64, text func(float64) string) string {
		if x := s.Of(figure).Median; x != 0 {
			return text(x)
		}
		return "–"
	}
	return []string{
		cpu(func(c results.CPU) float64 { return c.Contender }),
		cpu(func(c results.CPU) float64 { return c.Redis }),
		cpu(func(c results.CPU) float64 { return c.Postgres }),
		known(results.Peak, Number), Number(s.Of(results.WAL).Median), percent(s.Of(results.HeapOnly).Median),
		known(func(r results.Run) float64 {
			if r.Profiles == 0 {
				return 0
			}
			return results.Coalescing(r)
		}, Number),
	}
}
