package report

import (
	"slices"

	"aggregator/scripts/bench/results"
)

// Verdict says whether a load was sustained.
func Verdict(o results.Offer) string {
	if o.Sustained {
		return "sustained"
	}
	return "too much"
}

// Offers is the table of the loads that a service was offered, by rate.
func Offers(s results.Service) Table {
	t := Table{Head: []string{
		"events/s", "", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms", "sent late",
		"cores: service", "Redis", "PostgreSQL", "load generator",
	}}
	for _, o := range slices.Concat(byRate(s.Ladder), s.Half) {
		t.Add(Number(o.Rate), Verdict(o), Number(o.P50), Number(o.P90), Number(o.P99), Number(o.P999), Number(o.Max),
			percent(float64(o.Late)/float64(o.Events)), Number(o.CPU.Contender), Number(o.CPU.Redis), Number(o.CPU.Postgres), Number(o.CPU.Ourselves))
	}
	return t
}

func byRate(offers []results.Offer) []results.Offer {
	return slices.SortedFunc(slices.Values(offers), func(a, b results.Offer) int { return int(a.Rate - b.Rate) })
}

// Idle is the table of what an idle service costs.
func Idle(i results.Idle) Table {
	t := Table{Head: []string{"share of a core", "median", "min..max"}}
	row := func(name string, of func(results.CPU) float64) {
		s := cores(i, of)
		t.Add(name, percent(s.Median), percent(s.Min)+".."+percent(s.Max))
	}
	row("aggregator run", func(c results.CPU) float64 { return c.Contender })
	row("Redis", func(c results.CPU) float64 { return c.Redis })
	row("PostgreSQL", func(c results.CPU) float64 { return c.Postgres })
	return t
}

func cores(i results.Idle, of func(results.CPU) float64) results.Summary {
	shares := make([]float64, len(i.CPU))
	for n, c := range i.CPU {
		shares[n] = of(c)
	}
	return results.Summarize(shares)
}
