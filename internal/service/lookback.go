package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/aggregator"
	"aggregator/internal/events"
	"aggregator/internal/ledger"
	"aggregator/internal/terminal"
)

// OpenIncidents are those of the sources.
func OpenIncidents(ctx context.Context, pool *pgxpool.Pool, sources []*events.Source) ([]ledger.Incident, error) {
	all, err := ledger.OpenIncidents(ctx, pool)
	return slices.DeleteFunc(all, func(i ledger.Incident) bool {
		return !slices.ContainsFunc(sources, func(s *events.Source) bool { return s.Name() == i.Source })
	}), err
}

// LookBack checks, once a drain has ended, whether anything is missing. It returns all open incidents of its
// sources, and an error that says so, or that entries wait where it cannot drain them. A drain that was told
// to stop looks only at what is recorded.
func (e *Engine) LookBack(ctx context.Context) ([]ledger.Incident, error) {
	stopped := ctx.Err() != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), serverTimeout)
	defer cancel()
	sources := e.Sources
	var trouble error
	if !stopped {
		var found []events.Elsewhere
		if found, trouble = e.trouble(ctx); found != nil {
			sources = slices.Concat(sources, Former(found))
		}
		for _, source := range sources {
			_, err := aggregator.Reconcile(ctx, e.Pool, source, e.instance.log)
			if err != nil && !errors.Is(err, ledger.ErrNoCheckpoint) && !errors.Is(err, ledger.ErrNotInTime) {
				return nil, err
			}
		}
	}
	open, err := OpenIncidents(ctx, e.Pool, sources)
	if err == nil && len(open) > 0 {
		err = fmt.Errorf("open incidents: %d; aggregator verify shows them, and verify --accept ends them", len(open))
	}
	return open, errors.Join(err, trouble)
}

// Former are the former sources among those that were found, if PostgreSQL knows them.
func Former(found []events.Elsewhere) (sources []*events.Source) {
	for _, one := range found {
		if one.Former && one.Known && one.Problem == "" {
			sources = append(sources, one.Source)
		}
	}
	return sources
}

// FindElsewhere finds the sources that the settings do not name: see events.FindElsewhere.
func (i *Instance) FindElsewhere(ctx context.Context, to *Servers) ([]events.Elsewhere, error) {
	checkpoints, err := ledger.Checkpoints(ctx, to.Pool)
	if err != nil {
		return nil, err
	}
	known := make([]events.Known, len(checkpoints))
	for n, c := range checkpoints {
		known[n] = events.Known{Name: c.Source, Position: c.Position, Entries: c.Entries}
	}
	var kept []string // streams in which a raise may have kept entries
	for _, source := range to.Sources {
		incidents, err := ledger.Incidents(ctx, to.Pool, source.Name())
		if err != nil {
			return nil, err
		}
		for _, one := range incidents {
			if one.Kind == ledger.RedisSetBack || one.Kind == ledger.SourceMissing {
				kept = append(kept, source.KeptStream(one.To))
			}
		}
	}
	return events.FindElsewhere(ctx, to.Redis.Client, i.sourceOptions(), known, kept)
}

// DescribeElsewhere is a line for a person about a source that the settings do not name.
func DescribeElsewhere(e events.Elsewhere) string {
	waiting, what := "it is not known whether entries wait", "which the settings do not name"
	switch {
	case e.Waiting == 1:
		waiting = "1 entry waits"
	case e.Waiting >= 0:
		waiting = terminal.Grouped(e.Waiting) + " entries wait"
	}
	if e.Former {
		what = "a former source of the same key"
	}
	text := fmt.Sprintf("%s, %s: %s", e.Source.Name(), what, waiting)
	if e.Problem != "" {
		text += ": " + e.Problem
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

// mistaken says that the settings most likely name the wrong key: there never was anything at it, and entries
// wait at another key that PostgreSQL knows. Otherwise it is nil.
func mistaken(ctx context.Context, to *Servers, all []events.Elsewhere) error {
	waiting := ""
	for _, one := range all {
		if !one.Former && one.Waiting > 0 {
			waiting = DescribeElsewhere(one)
		}
	}
	if waiting == "" {
		return nil
	}
	for _, source := range to.Sources {
		if there, err := source.EverExisted(ctx); there || err != nil {
			return err
		}
		at, err := ledger.Load(ctx, to.Pool, source.Name())
		if !at.Position.IsZero() || err != nil && !errors.Is(err, ledger.ErrNoCheckpoint) {
			return err
		}
	}
	return fmt.Errorf("nothing was ever pushed to %s in this Redis, and PostgreSQL has processed entries of %s: "+
		"check source.key, source.kind, source.partitions and redis.url", to.Sources[0].Key(), waiting)
}
