package doctor

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/aggregator"
	"aggregator/internal/events"
	"aggregator/internal/ledger"
)

// Incidents compares what both servers say of the sources: whether one went back in time or is not
// the one that it was, and what was not accepted of that; and looks at the sources that the
// settings do not name. It reads only, and finds what no drain has recorded yet, too.
func Incidents(
	ctx context.Context, pool *pgxpool.Pool, sources []*events.Source, elsewhere []events.Elsewhere,
) []Finding {
	r := &report{server: "both"}
	open, err := ledger.OpenIncidents(ctx, pool)
	if err != nil {
		r.notSeen("incidents", err)
		return r.findings
	}
	for _, source := range sources {
		found, err := aggregator.Recognise(ctx, pool, source)
		if err != nil {
			r.notSeen("incidents", err)
		}
		open = append(open, found...)
	}
	for _, i := range open {
		r.add("incident "+i.Source, Problem, i.String(), incidentAdvice(i))
	}
	if len(open) == 0 {
		r.ok("incidents", "none is open: no bookmark is after its checkpoint, and Redis knows of all that was processed")
	}
	for _, source := range sources {
		r.bookmark(ctx, pool, source)
	}
	for _, e := range elsewhere {
		r.elsewhere(e)
	}
	return r.findings
}

// bookmark misses the bookmark of a source that was drained. Before that there is none.
func (r *report) bookmark(ctx context.Context, pool *pgxpool.Pool, source *events.Source) {
	at, err := ledger.Load(ctx, pool, source.Name())
	if err != nil || at.Position.IsZero() {
		return
	}
	if state, err := source.Inspect(ctx); err == nil && state.Exists && state.Bookmark == nil {
		r.add("bookmark of "+source.Name(), Warning,
			fmt.Sprintf("the source was drained, and consumer group %q does not exist: exporters do not see the lag",
				events.Group),
			"run or drain creates it once it has processed something; if one is running, see its log")
	}
}

func incidentAdvice(i ledger.Incident) string {
	const accept = "after that: aggregator verify --accept"
	switch i.Kind {
	case ledger.PostgresSetBack:
		return "make sure that this is the right database; docs/runbooks.md, AggregatorIncident; " + accept
	case ledger.RedisSetBack, ledger.SourceMissing:
		return "make sure that this is the right Redis, database number and source.key; docs/runbooks.md, " +
			"AggregatorIncident; " + accept
	default:
		return "find the cause: docs/runbooks.md, AggregatorIncident; " + accept
	}
}

func (r *report) elsewhere(e events.Elsewhere) {
	check := "source " + e.Source.Name()
	waiting := fmt.Sprintf("%d entries wait", e.Waiting)
	switch {
	case e.Waiting < 0:
		waiting = "it is not known whether entries wait"
	case e.Waiting == 1:
		waiting = "1 entry waits"
	}
	switch {
	case e.Former && e.Waiting > 0 && e.Problem != "":
		r.add(check, Problem, "a former source of the same key, "+waiting, e.Problem)
	case e.Former && e.Waiting > 0:
		r.add(check, Warning, "a former source of the same key, "+waiting,
			"drain and run drain it, too; let producers push to the new keys")
	case e.Waiting != 0:
		r.add(check, Warning, "the settings do not name it, "+waiting,
			"if its entries are to be counted: set source.key to it, or drain it once with --source-key")
	}
}
