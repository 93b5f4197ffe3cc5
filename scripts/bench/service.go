package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"aggregator/scripts/bench/report"
	"aggregator/scripts/bench/rig"
	"aggregator/scripts/loadgen/push"
	"aggregator/scripts/loadgen/workload"
)

// oneEach are events of one profile after the other, so that a chunk has one event of a profile: what a service
// meets.
type oneEach struct{ first, count, profiles, books int64 }

func (o oneEach) Len() int64 { return o.count }

// At steps through the profiles, and otherwise through the books, by primes.
func (o oneEach) At(i int64) workload.Event {
	n := o.first + i
	return workload.Event{Profile: 1 + n*7919%o.profiles, Book: 1 + n*104729%o.books, Like: n*31%5 != 0}
}

// service is a running one, and the events pushed to it so far.
type service struct {
	*bench
	pid      int
	conn     *pgx.Conn // hears of the checkpoint
	profiles int64
	pushed   int64
	before   int64 // entries of the stream before the first that we pushed
}

// tell makes the transaction that moves a checkpoint tell us how many entries are processed: PostgreSQL passes
// that on when it has committed, and not before.
const tell = `
CREATE FUNCTION public.bench_processed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('bench_processed', NEW.entries::text);
    RETURN NULL;
END
$$;
CREATE TRIGGER bench_processed AFTER UPDATE ON aggregator.checkpoint
    FOR EACH ROW EXECUTE FUNCTION public.bench_processed();
LISTEN bench_processed`

// serving is a contender: a service with settings that differ from the defaults. It has met each profile once when
// it is measured: its connections are open, its statements prepared, books and profiles remembered.
func (b *bench) serving(name string, from rig.State, settings ...string) contender {
	begin := 1000.0 // events a second, in the first round
	return contender{name: name, from: from, run: func(ctx context.Context, url string) (f rig.Figures, err error) {
		s := &service{bench: b, profiles: max(b.events/10, 1)}
		if s.conn, err = pgx.Connect(ctx, url); err != nil {
			return nil, err
		}
		defer s.conn.Close(context.WithoutCancel(ctx))
		if _, err := s.conn.Exec(ctx, tell); err != nil {
			return nil, fmt.Errorf("watching the checkpoint: %w", err)
		}
		if err := s.conn.QueryRow(ctx, `SELECT entries FROM aggregator.checkpoint`).Scan(&s.before); err != nil {
			return nil, err
		}
		err = b.servers.Serve(ctx, url, settings, func(ctx context.Context, pid int) (err error) {
			s.pid = pid
			if _, _, err = s.push(ctx, s.profiles, 0); err == nil {
				f, err = s.measure(ctx, begin)
			}
			return err
		})
		begin = f["capacity"] / 1.2 // of the next round
		return f, err
	}}
}

// push pushes so many events that were not pushed before, so many a second (0: as fast as it goes), and waits
// until they are committed. It returns how many milliseconds each took from when it was due, and how many were
// sent late.
func (s *service) push(ctx context.Context, count int64, rate float64) (took []float64, late int64, err error) {
	settings := workload.Defaults()
	events := oneEach{s.pushed, count, s.profiles, settings.Books}
	o := push.Options{Clients: 1, Pipeline: 1000, Rate: rate, LateAfter: 10 * time.Millisecond}
	o.Start = time.Now().Add(50 * time.Millisecond)
	patience := 2*time.Minute + time.Duration(count)*5*time.Millisecond
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("the events are not committed in time"))
	defer cancel()
	both, pushing := errgroup.WithContext(ctx)
	both.Go(func() error {
		pushed, err := push.Push(pushing, s.servers.Client, settings, events, o, nil)
		late = pushed.Late
		return err
	})
	both.Go(func() error {
		for done := int64(0); done < count; {
			n, err := s.conn.WaitForNotification(pushing)
			if err != nil {
				return err
			}
			at := time.Now()
			entries, err := strconv.ParseInt(n.Payload, 10, 64)
			if err != nil {
				return err
			}
			for ; done < min(entries-s.before-s.pushed, count); done++ {
				took = append(took, at.Sub(push.Due(o.Start, max(rate, 1), done)).Seconds()*1000)
			}
		}
		return nil
	})
	if err := both.Wait(); err != nil {
		return nil, 0, errors.Join(err, context.Cause(ctx))
	}
	s.pushed += count
	return took, late, nil
}

// load offers a load for some time, each event at a time that follows from its number and the rate alone: a stall
// is felt by all events that it delays (an open loop).
func (s *service) load(ctx context.Context, rate float64) (rig.Figures, error) {
	count := max(int64(rate*s.offer.Seconds()), 3)
	var took []float64
	var late int64
	cost, err := s.servers.Measure(ctx, s.pid, func() (err error) {
		took, late, err = s.push(ctx, count, rate)
		return err
	})
	if err != nil {
		return nil, err
	}
	f := latencies(took)
	f["late_percent"] = 100 * float64(late) / float64(count)
	f["us_daemon_per_event"] = 1e6 * cost["cpu_daemon"] / float64(count)
	f["us_postgres_per_event"] = 1e6 * cost["cpu_postgres"] / float64(count)
	s.log("       %6.0f/s  p50 %7.1f ms  p99 %7.1f ms  sustained: %t", rate, f["p50_ms"], f["p99_ms"], sustained(took))
	if !sustained(took) {
		return nil, nil
	}
	return f, nil
}

// latencies sums up how many milliseconds events took.
func latencies(took []float64) rig.Figures {
	return rig.Figures{"p50_ms": quantile(took, 0.5), "p99_ms": quantile(took, 0.99), "max_ms": quantile(took, 1)}
}

// sustained says of how many milliseconds events took, in their order, whether p99 is below a second and the queue
// does not grow: the median of the last third is below 1.5 times that of the middle one, or below 100 ms.
func sustained(took []float64) bool {
	third := len(took) / 3
	middle, end := quantile(took[third:2*third], 0.5), quantile(took[2*third:], 0.5)
	return quantile(took, 0.99) < 1000 && (end < 1.5*middle || end < 100)
}

// quantile is the least of some figures that so large a share of them does not exceed.
func quantile(figures []float64, share float64) float64 {
	sorted := slices.Sorted(slices.Values(figures))
	return sorted[max(int(math.Ceil(share*float64(len(sorted)))), 1)-1]
}

// search finds the capacity: the highest rate that is sustained, to 5 %. Each rate is tried once, so that a bad
// moment of the machine lowers it. It returns that rate and its figures; none if not even a very low one is
// sustained.
func search(begin float64, load func(rate float64) (rig.Figures, error)) (capacity float64, at rig.Figures, err error) {
	tooMuch := 0.0 // the lowest rate that was not sustained
	for rate := begin; rate > begin/50 && (tooMuch == 0 || tooMuch > 1.05*capacity); {
		f, err := load(rate)
		if err != nil {
			return 0, nil, err
		}
		if f != nil {
			capacity, at = rate, f
		} else {
			tooMuch = rate
		}
		switch {
		case tooMuch == 0:
			rate *= 1.25
		case capacity == 0:
			rate /= 1.5
		default:
			rate = math.Sqrt(capacity * tooMuch)
		}
	}
	if at == nil {
		err = errors.New("not even a very low rate is sustained")
	}
	return capacity, at, err
}

// measure finds the capacity of the service and what an event costs there, the latencies at half of it, and what
// the service costs when there is nothing to do.
func (s *service) measure(ctx context.Context, begin float64) (rig.Figures, error) {
	capacity, f, err := search(begin, func(rate float64) (rig.Figures, error) { return s.load(ctx, rate) })
	if err != nil {
		return nil, err
	}
	f["capacity"] = capacity
	half, _, err := s.push(ctx, int64(capacity/2*s.offer.Seconds()), capacity/2)
	if err != nil {
		return nil, err
	}
	maps.Copy(f, latencies(half))
	pause := func() error {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(s.offer):
			return nil
		}
	}
	if err := pause(); err != nil { // what comes after the last events is no idling
		return nil, err
	}
	idle, err := s.servers.Measure(ctx, s.pid, pause)
	f["idle_percent"] = 100 * idle["cpu_daemon"] / idle["seconds"]
	return f, err
}

// aged is the state that A ends in, but that no score was missing at its beginning: every profile has a mark and all
// its scores, and no transaction has to create one.
func (b *bench) aged(ctx context.Context) (rig.State, error) {
	s := ofProfiles(b.events, b.events/10)
	shape := catalogueFor(s)
	shape.Missing = 0
	from, err := b.servers.Prepare(ctx, shape, s)
	if err != nil {
		return from, err
	}
	return from.Aged(ctx)
}

// partService runs services on aged profiles.
func (b *bench) partService(ctx context.Context) error {
	from, err := b.aged(ctx)
	if err != nil {
		return err
	}
	contenders := []contender{b.serving(report.ByDefault, from)}
	if b.servers.Knows(ctx, grouping+"auto") {
		contenders = append(contenders, b.serving(report.Auto, from, grouping+"auto"))
	}
	return b.compare(ctx, "service", contenders...)
}
