package report

// target is a figure that was asked for. The median decides.
type target struct {
	part, contender, against string // with the last: the figure as a multiple of that contender's, round by round
	figure                   string
	most                     bool // at most the limit, or else at least
	limit                    float64
	unit                     string
	what                     string
}

const (
	atMost, atLeast = true, false

	rate, perEvent, perTx = "events_per_second", "us_per_event", "kilo_instructions_per_tx"
)

var targets = []target{
	{"A", ByDefault, PureSQL, perEvent, atMost, 1, "×", "A, the default (a profile a transaction), against pure SQL"},
	{"A", Together, PureSQL, perEvent, atMost, 0.5, "×", "A, 200 profiles per transaction, against pure SQL"},
	{"service", ByDefault, "", "capacity", atLeast, 6000, "events/s", "service, one event a profile, the default"},
	{"service", ByDefault, "", "p99_ms", atMost, 100, "ms", "the same at half of that: p99 from push to commit"},
	{"service", ByDefault, "", "p50_ms", atMost, 50, "ms", "the same at half of that: p50"},
	{"service", Auto, "", "capacity", atLeast, 8000, "events/s", "service, `profiles_per_transaction: auto`"},
	{"instructions", Each(10), "", perTx, atMost, 900, "thousand", "instructions, ten events a transaction"},
	{"instructions", Each(1), "", perTx, atMost, 700, "thousand", "instructions, one event a transaction"},
	{"instructions", Journaled(10), Each(10), perTx, atMost, 1.05, "×", "instructions with the journal, against without"},
	{"A", ByDefault, "", "us_daemon_per_tx", atMost, 50, "µs", "A, the daemon's processor time a transaction"},
	{"B", ByDefault, PureSQL, perEvent, atMost, 1.3, "×", "B (real ratings), the default, against pure SQL"},
	{"D", ByDefault, "", rate, atLeast, 400_000, "events/s", "D, one profile"},
	{"A", ByDefault, "", "peak_mib", atMost, 49, "MiB", "A, peak memory of the daemon"},
	{"C", Larger, "", "peak_mib", atMost, 126, "MiB", "C, peak memory of the daemon"},
	{"backlog", "4,000,000", "2,000,000", "peak_mib", atMost, 1.1, "×", "peak memory, 4 million events against 2"},
	{"C", Larger, Smaller, perEvent, atMost, 1.1, "×", "an event's time, ten times as many"},
	{"old", ByDefault, OldJob, rate, atLeast, 100, "×", "rate against the old job's queries"},
	{"service", ByDefault, "", "idle_percent", atMost, 1, "% of a core", "processor time of an idle service"},
	{"A", ByDefault, "", "heap_only_percent", atLeast, 95, "%", "A, updates that are heap-only"},
	{"C", Larger, "", "heap_only_percent", atLeast, 95, "%", "C, updates that are heap-only"},
	{"micro", "ReadToFold", "", "allocs/event", atMost, 6, "an event", "allocations, from Redis to a profile's sums"},
	{"micro", "Timeline/Middle", "", "ns/op", atMost, 5e6, "ns", "a moment in a profile's history of 10,000 rows"},
}

// Targets is the table of what was asked for.
func (r Results) Targets() string {
	rows := [][]string{{"what", "asked for", "median", "min..max", ""}}
	for _, t := range targets {
		bound := "at least "
		if t.most {
			bound = "at most "
		}
		row := []string{t.what, bound + Exact(t.limit) + " " + t.unit, "–", "–", "not measured"}
		if s, found := t.measured(r); found {
			row = append(row[:2], Number(s.Median), spread(s), t.verdict(s))
		}
		rows = append(rows, row)
	}
	return markdown(rows)
}

func (t target) measured(r Results) (Summary, bool) {
	part := r.Parts[t.part]
	var against []Series
	if t.against != "" {
		against = []Series{part.Find(t.against)}
	}
	return part.Find(t.contender).Of(t.figure, against...)
}

func (t target) verdict(s Summary) string {
	if t.most == (s.Median > t.limit) && s.Median != t.limit {
		return "**falls short**"
	}
	return "holds"
}
