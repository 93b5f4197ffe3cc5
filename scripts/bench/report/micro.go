package report

import (
	"slices"

	"aggregator/scripts/bench/results"
)

// Micro is the table of the Go benchmarks: medians, by unit.
func Micro(all []results.Micro) Table {
	units := []string{"ns/op", "B/op", "allocs/op", "ns/event", "ns/id", "allocs/event"}
	t := Table{Head: append([]string{""}, units...)}
	for _, m := range all {
		row := []string{m.Name}
		for _, unit := range units {
			if figures := m.Figures[unit]; len(figures) > 0 {
				row = append(row, Number(results.Summarize(figures).Median))
			} else {
				row = append(row, "–")
			}
		}
		t.Add(row...)
	}
	return t
}

// allocations are those of an event on its way from Redis to the sums of its profile.
func allocations(r results.Results) (results.Summary, bool) {
	i := slices.IndexFunc(r.Micro, func(m results.Micro) bool { return m.Name == "ReadToFold" })
	if i < 0 || len(r.Micro[i].Figures["allocs/event"]) == 0 {
		return results.Summary{}, false
	}
	return results.Summarize(r.Micro[i].Figures["allocs/event"]), true
}
