package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"aggregator/internal/aggregator"
	"aggregator/internal/events"
	"aggregator/internal/verdict"
)

// formerEvery is how often a service checks whether entries wait in former sources: producers may go on
// pushing to them until their settings are changed.
const formerEvery = time.Minute

// formerSources are those that an engine drains besides its own. They are of the same key, from another
// number of partitions or of the other kind, and are drained one after the other.
type formerSources struct {
	mu   sync.Mutex
	now  *aggregator.Aggregator // at work; nil: none
	done aggregator.Stats       // of those before it
	said map[string]string      // what was last logged about a source
}

func (f *formerSources) begin(a *aggregator.Aggregator) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = a
}

// end keeps the counts of what was begun, and nothing else of it.
func (f *formerSources) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done, f.now = f.done.Plus(f.now.Stats()), nil
}

func (f *formerSources) stats() aggregator.Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now == nil {
		return f.done
	}
	return f.done.Plus(f.now.Stats())
}

// news says whether a text about a source differs from the last one.
func (f *formerSources) news(source, text string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.said == nil {
		f.said = make(map[string]string)
	}
	was := f.said[source]
	f.said[source] = text
	return was != text
}

// Stats are those of the engine's own sources and of former ones.
func (e *Engine) Stats() aggregator.Stats {
	return e.Aggregator.Stats().Plus(e.former.stats())
}

// Run is Aggregator.Run; beside it, it drains former sources now and then.
func (e *Engine) Run(ctx context.Context) error {
	beside, stop := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		e.keepDrainingFormer(beside)
	}()
	defer func() {
		stop()
		<-stopped
	}()
	return e.Aggregator.Run(ctx)
}

func (e *Engine) keepDrainingFormer(ctx context.Context) {
	for {
		found, err := e.elsewhere(ctx)
		if err == nil {
			err = e.drainFormerAlone(ctx, found)
		}
		if err != nil && ctx.Err() == nil {
			e.instance.log.Warn("former sources are not drained yet", "error", err)
		}
		if !rest(ctx, formerEvery) {
			return
		}
	}
}

// drainFormerAlone drains former sources, unless another instance does.
func (e *Engine) drainFormerAlone(ctx context.Context, found []events.Elsewhere) error {
	if !slices.ContainsFunc(found, drainable) {
		return nil
	}
	err := e.instance.Alone(ctx, e.Pool, leaseOf("former"), func(ctx context.Context) error {
		_, err := e.drainFormer(ctx, found, aggregator.Limits{})
		return err
	})
	var held *HeldError
	if errors.As(err, &held) {
		return nil
	}
	return err
}

func drainable(e events.Elsewhere) bool { return e.Former && e.Waiting > 0 && e.Problem == "" }

// elsewhere finds what the settings do not name, and logs what has changed.
func (e *Engine) elsewhere(ctx context.Context) ([]events.Elsewhere, error) {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	found, err := e.instance.FindElsewhere(ctx, e.Servers)
	for _, one := range found {
		name, said := one.Source.Name(), one.Problem
		switch {
		case one.Waiting == 0:
			e.former.news(name, "")
			continue
		case drainable(one):
			said = "drained"
		}
		if !e.former.news(name, said) {
			continue
		}
		log := e.instance.log.With("source", name, "waiting", one.Waiting)
		switch {
		case drainable(one):
			log.Warn("entries wait in a former source of the same key: draining it, too")
		case one.Former && one.Waiting > 0:
			log.Error("entries wait in a former source, and it cannot be drained", "problem", one.Problem)
		default:
			log.Warn("a source that the settings do not name is not drained", "problem", one.Problem)
		}
	}
	return found, err
}

// drainFormer drains the former sources among those that were found, one after the other, and returns how many
// entries it left. The limits are for all of them.
func (e *Engine) drainFormer(
	ctx context.Context, found []events.Elsewhere, limits aggregator.Limits,
) (left int64, err error) {
	spent, until := false, time.Now().Add(limits.MaxDuration)
	for _, one := range found {
		if !drainable(one) {
			continue
		}
		timed, remaining := limits.MaxDuration > 0, time.Until(until)
		if spent || timed && remaining <= 0 {
			left += one.Waiting
			continue
		}
		if timed {
			limits.MaxDuration = remaining
		}
		former := e.instance.newAggregator(e.Pool, []*events.Source{one.Source}, nil)
		e.former.begin(former)
		rest, err := former.Drain(ctx, limits)
		e.former.end()
		if err != nil {
			return left, err
		}
		done := former.Stats()
		e.instance.log.Info("drained a former source", "source", one.Source.Name(),
			"read", done.Read, "applied", done.Applied, "dead", done.Dead, "left", rest)
		left += rest
		if limits.MaxEvents > 0 {
			limits.MaxEvents -= done.Read
			spent = limits.MaxEvents <= 0
		}
	}
	if spent {
		return left, errBudgetSpent
	}
	return left, nil
}

// WaitingEverywhere is Aggregator.Waiting with what waits in former sources that can be drained. It is an
// error if nothing can be drained.
func (e *Engine) WaitingEverywhere(ctx context.Context) (int64, error) {
	found, err := e.elsewhere(ctx)
	if err != nil {
		return 0, advised(err)
	}
	if err := blocked(found); err != nil {
		return 0, err
	}
	waiting, err := e.Waiting(ctx)
	for _, one := range found {
		if drainable(one) {
			waiting += one.Waiting
		}
	}
	return waiting, advised(err)
}

// advised adds to an error that more tries would not mend what a person may do about it.
func advised(err error) error {
	if err != nil && verdict.Of(err) == verdict.Halt {
		return fmt.Errorf("%w%s", err, verdict.Advice(err))
	}
	return err
}

// blocked says why nothing can be drained; nil if something can.
func blocked(found []events.Elsewhere) error {
	if slices.ContainsFunc(found, func(one events.Elsewhere) bool { return one.Halts }) {
		return stranded(found)
	}
	return nil
}

// errBudgetSpent says that a limit of events is reached.
var errBudgetSpent = errors.New("the limit of events is reached")

// Drain is Aggregator.Drain. Before that, it drains former sources, whose entries are older. Entries that wait
// where they cannot be drained are no error, unless nothing can be drained for the same reason: see trouble.
func (e *Engine) Drain(ctx context.Context, limits aggregator.Limits) (left int64, err error) {
	found, err := e.elsewhere(ctx)
	if err != nil {
		return 0, advised(err)
	}
	if err := blocked(found); err != nil {
		return 0, err
	}
	began, read := time.Now(), e.Stats().Read
	elsewhere, err := e.drainFormer(ctx, found, limits)
	switch {
	case errors.Is(err, errBudgetSpent):
		left, err := e.Waiting(context.WithoutCancel(ctx))
		return left + elsewhere, err
	case err != nil:
		return 0, err
	}
	if limits.MaxEvents > 0 {
		limits.MaxEvents -= e.Stats().Read - read
	}
	if limits.MaxDuration > 0 {
		limits.MaxDuration = max(time.Nanosecond, limits.MaxDuration-time.Since(began))
	}
	left, err = e.Aggregator.Drain(ctx, limits)
	return left + elsewhere, err
}

// trouble is an error if entries wait that no drain of these settings will reach. It also returns the sources
// that were found and that the settings do not name.
func (e *Engine) trouble(ctx context.Context) ([]events.Elsewhere, error) {
	found, err := e.elsewhere(ctx)
	if err != nil {
		return nil, err
	}
	return found, errors.Join(stranded(found), mistaken(ctx, e.Servers, found))
}
