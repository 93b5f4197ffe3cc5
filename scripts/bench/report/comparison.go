package report

import (
	"fmt"

	"aggregator/scripts/bench/results"
)

// Comparison is the table of a comparison. If to is not empty, times are also given as
// multiples of those of the contender of this name.
func Comparison(c results.Comparison, to string) Table {
	reference := results.Series{}
	for _, s := range c.Series {
		if s.Contender == to {
			reference = s
		}
	}
	t := Table{Head: []string{
		"", "runs", "seconds", "min..max", "events/s", "times " + to, "min..max", "CPU s: itself", "Redis", "PostgreSQL",
		"peak MiB", "WAL MiB", "heap-only", "events per profile update",
	}}
	if to == "" {
		t.Head = append(t.Head[:5], t.Head[7:]...)
	}
	for _, s := range c.Series {
		row := []string{s.Contender, fmt.Sprint(len(s.Runs)), number(s.Of(results.Seconds).Median), spread(s.Of(results.Seconds), ""), number(s.Of(results.PerSecond).Median)}
		if to != "" {
			ratio := s.Against(reference, results.Seconds)
			row = append(row, number(ratio.Median), spread(ratio, ""))
		}
		t.Rows = append(t.Rows, append(row, costs(s)...))
	}
	return t
}

// costs are the last cells of a row of Comparison.
func costs(s results.Series) []string {
	cpu := func(of func(results.CPU) float64) string {
		return number(s.Of(func(r results.Run) float64 { return of(r.CPU) }).Median)
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
		known(results.Peak, number), number(s.Of(results.WAL).Median), percent(s.Of(results.HeapOnly).Median),
		known(func(r results.Run) float64 {
			if r.Profiles == 0 {
				return 0
			}
			return results.Coalescing(r)
		}, number),
	}
}
