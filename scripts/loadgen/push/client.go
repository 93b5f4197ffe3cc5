package push

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/redis/go-redis/v9"

	"aggregator/scripts/loadgen/journal"
	"aggregator/scripts/loadgen/workload"
)

// client pushes batch after batch.
type client struct {
	Options
	db       redis.UniversalClient
	events   workload.Source
	schedule *schedule
	command  command
	keys     []any

	acknowledged, unknown, refused, late atomic.Int64
	latency                              *hdrhistogram.Histogram // microseconds
	lastError                            error                   // of an outage that was survived
	failures                             int                     // batches in a row that failed
}

// Latencies from a microsecond to an hour, to three digits: an outage is one too.
const longest = int64(time.Hour / time.Microsecond)

func newClient(db redis.UniversalClient, settings workload.Settings, events workload.Source, o Options,
	s *schedule,
) *client {
	c := &client{
		Options: o, db: db, events: events, schedule: s, command: commandFor(settings),
		latency: hdrhistogram.New(1, longest, 3),
	}
	for _, key := range settings.Keys() {
		c.keys = append(c.keys, key)
	}
	return c
}

// run pushes until there is nothing left, ctx is done or an error ends it.
func (c *client) run(ctx context.Context) error {
	for {
		first, end := c.schedule.claim(ctx)
		if first == end {
			return nil
		}
		if err := c.deliver(ctx, span{first, end}); err != nil {
			return err
		}
	}
}

// deliver sends the events of one claim, and those that Redis refused again and again
// when it may.
func (c *client) deliver(ctx context.Context, claimed span) error {
	left := []span{claimed}
	for len(left) > 0 {
		var again []span
		for i, s := range left {
			refused, err := c.send(ctx, s)
			again = append(again, refused...)
			if err == nil {
				c.failures = 0
				continue
			}
			if !c.ContinueOnError || permanent(err) {
				again = append(again, left[i+1:]...)
				c.refused.Add(total(again))
				return err
			}
			if err := c.sitOut(ctx, err); err != nil {
				again = append(again, left[i+1:]...)
				c.refused.Add(total(again))
				return err
			}
		}
		left = again
	}
	return nil
}

// send pushes events once, and returns those that Redis certainly does not have. The
// error is the first of any; events of unknown outcome are counted and not returned.
func (c *client) send(ctx context.Context, s span) (refused []span, err error) {
	began := time.Now()
	commands := c.build(ctx, s)
	if err := c.Journal.Write(journal.Sent, s.first, s.end); err != nil {
		return []span{s}, lasting{err}
	}
	// Not cancelled with ctx: a batch that is cut off has no known outcome.
	failure := c.execute(context.WithoutCancel(ctx), commands)
	answered := time.Now()
	for _, part := range outcomes(s.first, commands, failure) {
		if err := c.Journal.Write(part.outcome, part.first, part.end); err != nil {
			return refused, lasting{err}
		}
		n := part.end - part.first
		switch part.outcome {
		case journal.Acknowledged:
			c.acknowledged.Add(n)
			c.measure(part.span, began, answered)
		case journal.Unknown:
			c.unknown.Add(n)
		case journal.Refused:
			refused = append(refused, part.span)
		}
	}
	return refused, failure
}

// build makes the commands of the events.
func (c *client) build(ctx context.Context, s span) []*redis.Cmd {
	commands := make([]*redis.Cmd, 0, s.end-s.first)
	for i := s.first; i < s.end; i++ {
		e := c.events.At(i)
		commands = append(commands, c.command(ctx, c.keys[e.Partition], &e))
	}
	return commands
}

func (c *client) execute(ctx context.Context, commands []*redis.Cmd) error {
	pipeline := c.db.Pipeline()
	for _, command := range commands {
		_ = pipeline.Process(ctx, command) // only queues
	}
	_, err := pipeline.Exec(ctx)
	return err
}

// measure records latencies: from the intended time where there is one, else from the
// moment the batch was begun.
func (c *client) measure(s span, began, answered time.Time) {
	if c.Rate <= 0 {
		_ = c.latency.RecordValues(micros(answered.Sub(began)), s.end-s.first) // in range by construction
		return
	}
	for i := s.first; i < s.end; i++ {
		intended := c.schedule.intended(i)
		_ = c.latency.RecordValue(micros(answered.Sub(intended)))
		if began.Sub(intended) > c.LateAfter {
			c.late.Add(1)
		}
	}
}

func micros(d time.Duration) int64 { return min(max(d.Microseconds(), 1), longest) }

// sitOut waits until Redis answers again. It asks with a PING: a batch sent into an outage
// might come out of it with no known outcome.
func (c *client) sitOut(ctx context.Context, outage error) error {
	for {
		c.lastError = outage
		if !c.backOff(ctx) {
			return fmt.Errorf("interrupted during an outage: %w", outage)
		}
		if outage = c.db.Ping(ctx).Err(); outage == nil {
			return nil
		}
		if permanent(outage) {
			return outage
		}
	}
}

// backOff waits between 50 ms and 2 s, longer after each failure in a row, and is false
// when ctx ended the wait.
func (c *client) backOff(ctx context.Context) bool {
	most := min(100*time.Millisecond<<min(c.failures, 5), 2*time.Second)
	c.failures++
	return waitUntil(ctx, time.Now().Add(most/2+rand.N(most/2)))
}
