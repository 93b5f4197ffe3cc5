package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"aggregator/scripts/bench/daemon"
	"aggregator/scripts/bench/latency"
	"aggregator/scripts/bench/meter"
	"aggregator/scripts/bench/report"
	"aggregator/scripts/bench/results"
	"aggregator/scripts/loadgen/push"
	"aggregator/scripts/loadgen/workload"
)

// service is one that runs on the profiles of A, and the events pushed to it so far.
type service struct {
	*bench
	*daemon.Service
	watcher *latency.Watcher
	pushed  int64
}

// onService does something with a running service that has settled some events already:
// its connections are open, its statements prepared, and part of the books remembered.
func (b *bench) onService(ctx context.Context, do func(*service) error) (err error) {
	shape, settings := workloadOf(b.events)
	settings.Count = 0
	from, err := b.servers.Prepare(ctx, shape, settings)
	if err != nil {
		return err
	}
	url, err := b.servers.Restore(ctx, from)
	if err != nil {
		return err
	}
	s := &service{bench: b}
	if s.watcher, err = latency.Watch(ctx, url); err != nil {
		return err
	}
	defer s.watcher.Close(ctx)
	if s.Service, err = b.daemon(b.servers, url).Run(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	if _, _, err := s.push(ctx, b.warmUp, push.Options{}); err != nil {
		return err
	}
	return do(s)
}

// push pushes events that were not pushed before, and waits until they are committed.
func (s *service) push(ctx context.Context, count int64, o push.Options) (push.Report, []latency.Sighting, error) {
	_, settings := workloadOf(s.events)
	settings.Count, settings.Seed = count, uint64(s.pushed)
	events, err := workload.Open(settings)
	if err != nil {
		return push.Report{}, nil, err
	}
	o.Clients, o.Pipeline, o.LateAfter = 1, 1000, 10*time.Millisecond // one client keeps the order
	ctx, cancel := context.WithTimeoutCause(ctx, s.patience(count), errors.New("the events are not committed in time"))
	defer cancel()
	var pushed push.Report
	var sightings []latency.Sighting
	both, pushing := errgroup.WithContext(ctx)
	both.Go(func() (err error) {
		pushed, err = push.Push(pushing, s.servers.Client, settings, events, o, nil)
		return err
	})
	both.Go(func() (err error) {
		sightings, err = s.watcher.Until(pushing, s.pushed, s.pushed+count)
		return err
	})
	if err := both.Wait(); err != nil {
		return pushed, nil, errors.Join(err, context.Cause(ctx), s.Alive())
	}
	s.pushed += count
	return pushed, sightings, nil
}

// patience is how long a service may take: far longer than any that is worth measuring.
func (s *service) patience(events int64) time.Duration {
	return time.Minute + 2*s.bench.offer + time.Duration(events)*time.Millisecond
}

// offer offers a load and measures how long its events take.
func (s *service) offer(ctx context.Context, rate float64) (o results.Offer, err error) {
	load := latency.Load{Rate: rate, Count: int64(math.Round(rate * s.bench.offer.Seconds()))}
	var pushed push.Report
	var sightings []latency.Sighting
	cores, err := meter.Cores(ctx, s.servers, s.PID(), func() (err error) {
		load.Start = time.Now().Add(50 * time.Millisecond)
		pushed, sightings, err = s.push(ctx, load.Count, push.Options{Rate: rate, Start: load.Start})
		return err
	})
	if err != nil {
		return o, err
	}
	o = latency.Of(load, sightings)
	o.Late, o.CPU = pushed.Late, cores
	s.log("  %7.0f/s  p50 %8.1f ms  p99 %8.1f ms  %s%s", rate, o.P50, o.P99, report.Verdict(o), disturbed(cores.Others))
	return o, nil
}

func (b *bench) partService(ctx context.Context) error {
	measured := results.Service{When: now()}
	err := b.onService(ctx, func(s *service) (err error) {
		if measured.Ladder, measured.Capacity, err = s.climb(ctx); err != nil {
			return err
		}
		for range b.runs {
			if measured.Capacity == 0 {
				break // not even the lowest rate is sustained here
			}
			o, err := s.offer(ctx, measured.Capacity/2)
			if err != nil {
				return err
			}
			measured.Half = append(measured.Half, o)
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.results.Service = &measured
	fmt.Fprintf(b.out, "\nservice, %s: capacity %s events/s\n", measured.When.Format(time.DateTime), report.Number(measured.Capacity))
	report.Offers(measured).WriteText(b.out)
	return nil
}

// climb offers rising rates until two in a row are not sustained, then halves the gap
// above the highest that was, which is the capacity.
func (s *service) climb(ctx context.Context) (ladder []results.Offer, capacity float64, err error) {
	failed := 0 // in a row
	for _, rate := range s.rates {
		o, err := s.offer(ctx, rate)
		if err != nil {
			return nil, 0, err
		}
		ladder = append(ladder, o)
		if failed++; o.Sustained {
			failed = 0
		}
		if failed == 2 {
			break
		}
	}
	for range s.bisect {
		capacity, above := gap(ladder)
		if capacity == 0 || above == 0 {
			break
		}
		o, err := s.offer(ctx, (capacity+above)/2)
		if err != nil {
			return nil, 0, err
		}
		ladder = append(ladder, o)
	}
	capacity, _ = gap(ladder)
	return ladder, capacity, nil
}

// gap is the highest rate that was sustained, and the lowest above it that was not; either
// may be missing.
func gap(ladder []results.Offer) (capacity, above float64) {
	for _, o := range ladder {
		if o.Sustained {
			capacity = max(capacity, o.Rate)
		}
	}
	for _, o := range ladder {
		if !o.Sustained && o.Rate > capacity && (above == 0 || o.Rate < above) {
			above = o.Rate
		}
	}
	return capacity, above
}

func (b *bench) partIdle(ctx context.Context) error {
	measured := results.Idle{When: now(), Seconds: b.idle.Seconds()}
	err := b.onService(ctx, func(s *service) error {
		if err := pause(ctx, b.idle/2); err != nil { // what comes after the last events is no idling
			return err
		}
		for range b.runs {
			cores, err := meter.Cores(ctx, b.servers, s.PID(), func() error { return pause(ctx, b.idle) })
			if err != nil {
				return err
			}
			measured.CPU = append(measured.CPU, cores)
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.results.Idle = &measured
	fmt.Fprintf(b.out, "\nidle, %s\n", measured.When.Format(time.DateTime))
	report.Idle(measured).WriteText(b.out)
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
