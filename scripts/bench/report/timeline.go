package report

import "aggregator/scripts/bench/results"

// Timeline is the table of how long it takes to read from a long history.
func Timeline(l results.Timeline) Table {
	t := Table{Head: []string{"", "profiles", "rows of each", "times", "ms", "min..max"}}
	for _, look := range l.Looks {
		s := milliseconds(look)
		t.Add(look.What, Exact(float64(l.Profiles)), Exact(float64(l.Rows)), Exact(float64(len(look.Seconds))), Number(s.Median), spread(s))
	}
	return t
}

func milliseconds(l results.Look) results.Summary {
	s := results.Summarize(l.Seconds)
	return results.Summary{Median: 1000 * s.Median, Min: 1000 * s.Min, Max: 1000 * s.Max}
}

// slowest is the look at a timeline that takes longest.
func slowest(r results.Results) (most results.Summary, found bool) {
	if r.Timeline == nil {
		return most, false
	}
	for _, look := range r.Timeline.Looks {
		if s := milliseconds(look); s.Median > most.Median {
			most = s
		}
	}
	return most, true
}
