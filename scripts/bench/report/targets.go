package report

import (
	"fmt"

	"aggregator/scripts/bench/results"
)

// target is a figure that was asked for, and what was measured. The median decides.
type target struct {
	part, what string
	most       bool // at most the limit, or else at least
	limit      float64
	unit       string
	measured   func(results.Results) (results.Summary, bool) // false: not measured
}

var targets = []target{
	{"A", "one profile per transaction (the default), time against pure SQL", true, 1.0, "×", against("A", ByDefault, PureSQL)},
	{"A", "200 profiles per transaction, time against pure SQL", true, 0.5, "×", against("A", Together, PureSQL)},
	{"old", "rate against that of the old job, a query per read and write", false, 100, "×", overOldJob},
	{"C", "cost of an event, ten times as many over ten times the profiles, against the fewer", true, 1.1, "×", growth},
	{"D", "one profile", false, 150_000, "events/s", of("D", ByDefault, results.PerSecond)},
	{"service", "p50 from push to commit at half of the capacity", true, 50, "ms", half(func(o results.Offer) float64 { return o.P50 })},
	{"service", "p99 from push to commit at half of the capacity", true, 500, "ms", half(func(o results.Offer) float64 { return o.P99 })},
	{"idle", "processor time of an idle service", true, 1, "% of a core", idle},
	{"A", "peak memory", true, 64, "MiB", of("A", ByDefault, results.Peak)},
	{"C", "peak memory, the larger", true, 128, "MiB", largest("C", results.Peak)},
	{"backlog", "peak memory, the longest backlog against the next", true, 1.1, "×", flat},
	{"timeline", "timeline of a profile with 10,000 rows, the slowest", true, 5, "ms", slowest},
	{"micro", "from Redis to the sums of a profile", true, 6, "allocations per event", allocations},
	{"A", "updates that are heap-only", false, 95, "%", of("A", ByDefault, heapOnly)},
	{"C", "updates that are heap-only, the larger", false, 95, "%", largest("C", heapOnly)},
}

// Targets is the table of what was asked for.
func Targets(r results.Results) Table {
	t := Table{Head: []string{"part", "what", "asked for", "median", "min..max", ""}}
	for _, target := range targets {
		t.Add(target.row(r)...)
	}
	return t
}

func (t target) row(r results.Results) []string {
	bound := "at least "
	if t.most {
		bound = "at most "
	}
	row := []string{t.part, t.what, bound + Exact(t.limit) + " " + t.unit}
	s, found := t.measured(r)
	if !found {
		return append(row, "–", "–", "not measured")
	}
	verdict := "holds"
	if t.most == (s.Median > t.limit) && s.Median != t.limit {
		verdict = "**falls short**"
	}
	return append(row, Number(s.Median), spread(s), verdict)
}

type measured = func(results.Results) (results.Summary, bool)

func of(part, contender string, figure func(results.Run) float64) measured {
	return func(r results.Results) (results.Summary, bool) {
		s, found := r.Comparisons[part].Find(contender)
		if !found {
			return results.Summary{}, false
		}
		return s.Of(figure), true
	}
}

// largest is the figure of the contender with the greatest X.
func largest(part string, figure func(results.Run) float64) measured {
	return func(r results.Results) (results.Summary, bool) {
		series := r.Comparisons[part].Series
		if len(series) == 0 {
			return results.Summary{}, false
		}
		most := series[0]
		for _, s := range series {
			if s.X > most.X {
				most = s
			}
		}
		return most.Of(figure), true
	}
}

func against(part, contender, other string) measured {
	return func(r results.Results) (results.Summary, bool) {
		s, found := r.Comparisons[part].Find(contender)
		to, foundTo := r.Comparisons[part].Find(other)
		if !found || !foundTo {
			return results.Summary{}, false
		}
		return s.Against(to, results.PerEvent), true
	}
}

func overOldJob(r results.Results) (results.Summary, bool) {
	c := r.Comparisons["old"]
	s, found := c.Find(ByDefault)
	if !found {
		return results.Summary{}, false
	}
	return s.Against(c.Series[0], results.PerSecond), true
}

// growth compares the larger workload of C with the smaller.
func growth(r results.Results) (results.Summary, bool) {
	c := r.Comparisons["C"]
	if len(c.Series) != 2 {
		return results.Summary{}, false
	}
	return c.Series[0].Against(c.Series[1], results.PerEvent), true
}

// flat compares the memory of the longest backlog with that of the one before it.
func flat(r results.Results) (results.Summary, bool) {
	s := r.Comparisons["backlog"].Series
	if len(s) < 2 {
		return results.Summary{}, false
	}
	return s[len(s)-1].Against(s[len(s)-2], results.Peak), true
}

func half(figure func(results.Offer) float64) measured {
	return func(r results.Results) (results.Summary, bool) {
		if r.Service == nil || len(r.Service.Half) == 0 {
			return results.Summary{}, false
		}
		figures := make([]float64, len(r.Service.Half))
		for i, o := range r.Service.Half {
			figures[i] = figure(o)
		}
		return results.Summarize(figures), true
	}
}

func idle(r results.Results) (results.Summary, bool) {
	if r.Idle == nil {
		return results.Summary{}, false
	}
	return cores(*r.Idle, func(c results.CPU) float64 { return 100 * c.Contender }), true
}

func heapOnly(r results.Run) float64 { return 100 * results.HeapOnly(r) }

// Disturbance is the greatest share of a core that anything else took beside a run.
func Disturbance(r results.Results) string {
	most := 0.0
	for _, c := range r.Comparisons {
		for _, s := range c.Series {
			most = max(most, s.Of(results.Others).Median)
		}
	}
	return fmt.Sprintf("%.2f", most)
}
