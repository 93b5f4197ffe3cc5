package results

import "slices"

// Summary is the middle and the ends of several figures.
type Summary struct{ Median, Min, Max float64 }

// Summarize sums up at least one figure.
func Summarize(figures []float64) Summary {
	sorted := slices.Sorted(slices.Values(figures))
	n := len(sorted)
	return Summary{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Min: sorted[0], Max: sorted[n-1]}
}

// Find returns the series of a contender.
func (c Comparison) Find(contender string) (Series, bool) {
	i := slices.IndexFunc(c.Series, func(s Series) bool { return s.Contender == contender })
	if i < 0 {
		return Series{}, false
	}
	return c.Series[i], true
}

// Of sums up a figure of each run.
func (s Series) Of(figure func(Run) float64) Summary {
	figures := make([]float64, len(s.Runs))
	for i, r := range s.Runs {
		figures[i] = figure(r)
	}
	return Summarize(figures)
}

// Against sums up, round by round, the quotients of a figure and that of another
// contender: what befell the machine in a round has befallen both.
func (s Series) Against(other Series, figure func(Run) float64) Summary {
	quotients := make([]float64, min(len(s.Runs), len(other.Runs)))
	for i := range quotients {
		quotients[i] = figure(s.Runs[i]) / figure(other.Runs[i])
	}
	return Summarize(quotients)
}

// PerSecond is the rate, in events.
func PerSecond(r Run) float64 { return float64(r.Events) / r.Seconds }

// PerEvent is the time that an event took, in seconds.
func PerEvent(r Run) float64 { return r.Seconds / float64(r.Events) }

// Seconds is how long it took.
func Seconds(r Run) float64 { return r.Seconds }

// HeapOnly is the share of updates that were heap-only.
func HeapOnly(r Run) float64 { return float64(r.HeapOnly) / float64(max(r.Updates, 1)) }

// Coalescing is how many events were applied by one update of a profile.
func Coalescing(r Run) float64 { return float64(r.Events) / float64(max(r.Profiles, 1)) }

// Peak is the peak memory in MiB.
func Peak(r Run) float64 { return float64(r.Peak) / (1 << 20) }

// WAL is the log written, in MiB.
func WAL(r Run) float64 { return float64(r.WAL) / (1 << 20) }

// Others is the share of a core that everything else on the machine took.
func Others(r Run) float64 { return r.CPU.Others / r.Seconds }
