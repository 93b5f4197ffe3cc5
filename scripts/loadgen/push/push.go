// Package push sends the events of a workload to Redis and measures how that goes.
//
// No command is ever sent twice by itself: when a connection breaks, what had not been
// answered is of unknown outcome, is reported as such and stays so. Only what Redis
// refused, and what cannot have left this process, may be sent again.
package push

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"aggregator/scripts/loadgen/journal"
	"aggregator/scripts/loadgen/workload"
)

// Options say how to push.
type Options struct {
	Clients         int           // connections that push at the same time
	Pipeline        int           // most events sent before waiting for answers
	Rate            float64       // events a second; 0: as fast as possible
	Start           time.Time     // when the first event of a rate is due; zero: now
	LateAfter       time.Duration // a send counts as late when it begins this much after its time
	ContinueOnError bool          // keep on through outages
	Journal         *journal.Writer
}

// Push sends all events and returns when each is acknowledged, given up or, after an
// error without ContinueOnError, left. Cancelling ctx lets what is under way be answered
// and leaves the rest. The report is good in every case; the error says why events are
// missing from it.
func Push(ctx context.Context, db redis.UniversalClient, settings workload.Settings, events workload.Source, o Options,
	progress func(Tally),
) (Report, error) {
	s := &schedule{count: events.Len(), batch: int64(o.Pipeline), rate: o.Rate, start: o.Start}
	if s.start.IsZero() {
		s.start = time.Now()
	}
	stopped, stop := context.WithCancel(ctx)
	defer stop()
	var group errgroup.Group
	clients := make([]*client, o.Clients)
	for i := range clients {
		clients[i] = newClient(db, settings, events, o, s)
		group.Go(func() error {
			err := clients[i].run(stopped)
			if err != nil {
				stop() // the others finish what they have begun
			}
			return err
		})
	}
	finished := watch(s.start, clients, progress)
	err := group.Wait()
	finished()
	report := newReport(s, clients, o)
	if err == nil && s.claimed() < s.count {
		err = errors.New("interrupted")
	}
	return report, err
}

// watch calls progress now and then until the function returned is called.
func watch(start time.Time, clients []*client, progress func(Tally)) (finished func()) {
	if progress == nil {
		return func() {}
	}
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		ticker := time.NewTicker(2 * time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				progress(sum(clients, time.Since(start)))
			}
		}
	})
	return func() { close(done); group.Wait() }
}
