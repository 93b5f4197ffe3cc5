package report

import "aggregator/scripts/bench/results"

// Purge is the table of what it costs to remove rows of history.
func Purge(p results.Purge) Table {
	t := Table{Head: []string{"rows of history", "removed", "runs", "seconds", "ms per 1,000 removed", "min..max", "CPU ms per 1,000: PostgreSQL", "WAL KiB per 1,000"}}
	for _, r := range p.Removals {
		s := results.Series{Runs: r.Runs}
		per := s.Of(func(r results.Run) float64 { return 1e6 * results.PerEvent(r) })
		t.Add(Exact(float64(r.Rows)), Exact(float64(r.Removed)), Exact(float64(len(r.Runs))), Number(s.Of(results.Seconds).Median), Number(per.Median), spread(per),
			Number(s.Of(postgresPer1000).Median), Number(s.Of(walPer1000).Median))
	}
	return t
}

// Thinning is the table of what it costs to thin the history out.
func Thinning(p results.Purge) Table {
	t := Table{Head: []string{"rows of history", "removed", "runs", "seconds", "rows/s", "min..max", "CPU ms per 1,000: PostgreSQL", "WAL KiB per 1,000", "again: seconds", "ms per 1,000 read"}}
	for _, r := range p.Thinnings {
		s := results.Series{Runs: r.Runs}
		rate := s.Of(results.PerSecond)
		again := results.Summarize(r.Again).Median
		t.Add(Exact(float64(r.Rows)), Exact(float64(r.Runs[0].Events)), Exact(float64(len(r.Runs))), Number(s.Of(results.Seconds).Median), Number(rate.Median), spread(rate),
			Number(s.Of(postgresPer1000).Median), Number(s.Of(walPer1000).Median), Number(again), Number(1e6*again/float64(r.Rows-r.Runs[0].Events)))
	}
	return t
}

func postgresPer1000(r results.Run) float64 { return 1e6 * r.CPU.Postgres / float64(r.Events) }

func walPer1000(r results.Run) float64 { return float64(r.WAL) / 1024 * 1000 / float64(r.Events) }
