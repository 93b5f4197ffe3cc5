package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/aggregator"
	"aggregator/internal/events"
	"aggregator/internal/ledger"
)

// incidentLine is an open incident. Its names are those of the JSON form.
type incidentLine struct {
	Source   string              `json:"source"`
	Kind     ledger.IncidentKind `json:"kind"`
	From     string              `json:"from"` // entries after this position
	To       string              `json:"to"`   // up to this one
	Entries  int64               `json:"entries"`
	Retained int64               `json:"retained"` // of these, still in Redis when it was found
	Lost     int64               `json:"lost"`     // of these, applied nowhere and gone from Redis, as far as is known
	Detected time.Time           `json:"detected_at"`
	Text     string              `json:"text"`
}

func newIncidentLines(all []ledger.Incident) []incidentLine {
	lines := make([]incidentLine, len(all))
	for i, one := range all {
		lines[i] = incidentLine{
			Source: one.Source, Kind: one.Kind, From: one.From.String(), To: one.To.String(),
			Entries: one.Entries, Retained: one.Retained, Lost: one.Lost(),
			Detected: one.Detected.UTC(), Text: one.String(),
		}
	}
	return lines
}

func (l incidentLine) String() string {
	since := ""
	if !l.Detected.IsZero() {
		since = ", since " + l.Detected.Format(time.RFC3339)
	}
	return fmt.Sprintf("incident: %s: %s%s: %s", l.Source, l.Kind, since, l.Text)
}

// openIncidents are those of the sources.
func openIncidents(ctx context.Context, pool *pgxpool.Pool, sources []*events.Source) ([]ledger.Incident, error) {
	all, err := ledger.OpenIncidents(ctx, pool)
	return slices.DeleteFunc(all, func(i ledger.Incident) bool {
		return !slices.ContainsFunc(sources, func(s *events.Source) bool { return s.Name() == i.Source })
	}), err
}

// lookBack looks, once a drain has ended, whether anything is missing. It returns all open
// incidents of its sources, and an error that says so, or that entries wait where it cannot drain
// them. A drain that was told to stop looks at what is recorded only.
func (a *app) lookBack(ctx context.Context, engine *engine) ([]ledger.Incident, error) {
	stopped := ctx.Err() != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), serverTimeout)
	defer cancel()
	sources := engine.sources
	var trouble error
	if !stopped {
		var found []events.Elsewhere
		if found, trouble = engine.trouble(ctx); found != nil {
			sources = slices.Concat(sources, formerOnes(found))
		}
		for _, source := range sources {
			_, err := aggregator.Reconcile(ctx, engine.pool, source, a.log)
			if err != nil && !errors.Is(err, ledger.ErrNoCheckpoint) && !errors.Is(err, ledger.ErrNotInTime) {
				return nil, err
			}
		}
	}
	open, err := openIncidents(ctx, engine.pool, sources)
	if err == nil && len(open) > 0 {
		err = fmt.Errorf("open incidents: %d; aggregator verify shows them, and verify --accept ends them", len(open))
	}
	return open, errors.Join(err, trouble)
}

// formerOnes are the former sources among those that were found, if PostgreSQL knows them.
func formerOnes(found []events.Elsewhere) (sources []*events.Source) {
	for _, one := range found {
		if one.Former && one.Known && one.Problem == "" {
			sources = append(sources, one.Source)
		}
	}
	return sources
}

// findElsewhere finds what the settings do not name: see events.FindElsewhere.
func (a *app) findElsewhere(ctx context.Context, to *servers) ([]events.Elsewhere, error) {
	checkpoints, err := ledger.Checkpoints(ctx, to.pool)
	if err != nil {
		return nil, err
	}
	known := make([]events.Known, len(checkpoints))
	for i, c := range checkpoints {
		known[i] = events.Known{Name: c.Source, Position: c.Position, Entries: c.Entries}
	}
	var kept []string // streams in which a raise may have kept entries
	for _, source := range to.sources {
		incidents, err := ledger.Incidents(ctx, to.pool, source.Name())
		if err != nil {
			return nil, err
		}
		for _, i := range incidents {
			if i.Kind == ledger.RedisSetBack || i.Kind == ledger.SourceMissing {
				kept = append(kept, source.Behind(i.To))
			}
		}
	}
	return events.FindElsewhere(ctx, to.redis.client, a.sourceOptions(), known, kept)
}

// elsewhereLine is a source that the settings do not name. Its names are those of the JSON form.
type elsewhereLine struct {
	Source  string `json:"source"`
	Key     string `json:"key"`     // what producers push to
	Former  bool   `json:"former"`  // of the same source.key: it is drained as well
	Waiting *int64 `json:"waiting"` // null: not known
	Problem string `json:"problem,omitempty"`
}

func newElsewhereLines(all []events.Elsewhere) []elsewhereLine {
	lines := make([]elsewhereLine, len(all))
	for i, e := range all {
		lines[i] = elsewhereLine{Source: e.Source.Name(), Key: e.Source.Key(), Former: e.Former, Problem: e.Problem}
		if e.Waiting >= 0 {
			lines[i].Waiting = &e.Waiting
		}
	}
	return lines
}

func (l elsewhereLine) String() string {
	waiting, what := "it is not known whether entries wait", "which the settings do not name"
	if l.Waiting != nil {
		waiting = entriesWait(*l.Waiting)
	}
	if l.Former {
		what = "a former source of the same key"
	}
	text := fmt.Sprintf("%s, %s: %s", l.Source, what, waiting)
	if l.Problem != "" {
		text += ": " + l.Problem
	}
	return text
}

// stranded says which former sources hold entries and cannot be drained; nil if there are none.
func stranded(all []events.Elsewhere) error {
	var texts []string
	for _, e := range all {
		if e.Former && e.Waiting > 0 && e.Problem != "" {
			texts = append(texts, fmt.Sprintf("%s: %s", e.Source.Name(), e.Problem))
		}
	}
	if len(texts) == 0 {
		return nil
	}
	return fmt.Errorf("entries wait in former sources that cannot be drained: %s", strings.Join(texts, "; "))
}

// mistaken says that the settings most likely name the wrong key: there never was anything at it,
// and entries wait at another that PostgreSQL knows. It is nil if not.
func mistaken(ctx context.Context, to *servers, all []events.Elsewhere) error {
	waiting := ""
	for _, line := range newElsewhereLines(all) {
		if !line.Former && line.Waiting != nil && *line.Waiting > 0 {
			waiting = line.String()
		}
	}
	if waiting == "" {
		return nil
	}
	for _, source := range to.sources {
		if there, err := source.EverExisted(ctx); there || err != nil {
			return err
		}
		at, err := ledger.Load(ctx, to.pool, source.Name())
		if !at.Position.IsZero() || err != nil && !errors.Is(err, ledger.ErrNoCheckpoint) {
			return err
		}
	}
	return fmt.Errorf("nothing was ever pushed to %s in this Redis, and PostgreSQL has processed entries of %s: "+
		"check source.key, source.kind, source.partitions and redis.url", to.sources[0].Key(), waiting)
}
