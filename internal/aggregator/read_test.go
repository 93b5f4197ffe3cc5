package aggregator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/events"
)

// pushes is a stream in fake time: of each of its entries it is known when it will be pushed. A
// read takes a moment, as one from Redis does.
type pushes struct {
	at       []time.Time // in order
	profiles int         // that the entries are of in turn; 0: one each
	reads    int
	fails    error // of a read; nil: none
}

const readTakes = 300 * time.Microsecond

func (p *pushes) there() int {
	n, _ := slices.BinarySearchFunc(p.at, time.Now(), func(at, now time.Time) int {
		if at.After(now) {
			return 1
		}
		return -1
	})
	return n
}

func (p *pushes) Read(ctx context.Context, batch *events.Batch, limit int, patience time.Duration) (int, error) {
	p.reads++
	if next := int(batch.Last.Ms); next < len(p.at) {
		patience = min(patience, max(0, time.Until(p.at[next])))
	}
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(patience + readTakes):
	}
	if p.fails != nil {
		return 0, p.fails
	}
	first := int(batch.Last.Ms) // the position of an entry is its number, from 1 on
	n := min(limit, p.there()-first)
	for i := range n {
		number := first + i + 1
		batch.Last = events.Position{Ms: int64(number)}
		if p.profiles > 0 {
			number %= p.profiles
		}
		e := events.Event{Position: batch.Last, ProfileID: int64(number), BookID: int64(number)}
		batch.Events = append(batch.Events, e)
	}
	batch.Entries += n
	batch.Held += 56 * n
	return n, nil
}

func (p *pushes) Inspect(context.Context) (events.State, error) {
	return events.State{Length: int64(p.there())}, nil
}

// every makes n pushes at moments that are so far apart, from now on.
func every(apart time.Duration, n int) *pushes {
	var p pushes
	for i := range n {
		p.at = append(p.at, time.Now().Add(time.Duration(i)*apart))
	}
	return &p
}

// atRandom makes pushes of so many a second for so long: a Poisson process.
func atRandom(rate float64, d time.Duration) *pushes {
	r, now, end, p := rand.New(rand.NewPCG(1, 1)), time.Now(), time.Now().Add(d), &pushes{}
	for {
		now = now.Add(time.Duration(-math.Log(1-r.Float64()) / rate * float64(time.Second)))
		if now.After(end) {
			return p
		}
		p.at = append(p.at, now)
	}
}

// chunk is one that was applied.
type chunk struct {
	n       int
	handed  time.Time
	longest time.Duration // that one of its events was under way, until the chunk was applied
}

// replay reads the pushes in a loop of the reader, and applies chunks in the time that cost says.
// It returns when as many entries are applied as there are pushes, or when the reader ends.
func replay(t *testing.T, pushes *pushes, cost func(*events.Batch) time.Duration, set func(*reader)) (
	chunks []chunk, taken int, err error,
) {
	t.Helper()
	var worked moment
	r := &reader{
		tracker: newTracker(&worked, slog.New(slog.DiscardHandler)), source: pushes,
		limit: func() int { return 0 }, smaller: func(_ int, err error) error { return err },
		timeout: time.Minute, ahead: &prefetcher{},
		policy: batchPolicy{maxEvents: 1_000_000, maxBytes: chunkBytes, maxWait: 10 * time.Millisecond},
	}
	if set != nil {
		set(r)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	to := newExchange()
	go func() {
		defer close(to.chunks)
		taken, err = r.read(ctx, events.Position{}, to)
	}()
	applied := 0
	for batch := range to.chunks {
		handed := time.Now()
		time.Sleep(cost(batch))
		chunks = append(chunks, chunk{batch.Entries, handed, time.Since(pushes.at[applied])})
		if applied += batch.Entries; applied == len(pushes.at) {
			stop()
		}
		r.tracker.chunkDone()
		to.free <- time.Now()
	}
	return chunks, taken, err
}

// costs is a cost of so much for a chunk, and so much for each of its entries.
func costs(chunk, entry time.Duration) func(*events.Batch) time.Duration {
	return func(b *events.Batch) time.Duration { return chunk + time.Duration(b.Entries)*entry }
}

func sizes(chunks []chunk) []int {
	all := make([]int, len(chunks))
	for i, c := range chunks {
		all[i] = c.n
	}
	return all
}

func TestReadQuietSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pushes := every(100*time.Millisecond, 50)
		chunks, _, err := replay(t, pushes, costs(6*time.Millisecond, 0), nil)
		require.NoError(t, err)
		assert.Len(t, chunks, 50)
		for _, c := range chunks {
			assert.Equal(t, 6*time.Millisecond+readTakes, c.longest, "an event goes at once")
		}
		assert.Less(t, pushes.reads, 55, "a chunk takes one, and each wait that brings nothing")
	})
}

// An event that comes soon after another one waits for the applier, and for others.
func TestReadBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chunks, _, err := replay(t, every(100*time.Microsecond, 101), costs(6*time.Millisecond, 0), nil)
		require.NoError(t, err)
		require.Len(t, chunks, 2)
		assert.Less(t, chunks[0].n, 5)
		assert.InDelta(t, 16, chunks[1].handed.Sub(chunks[0].handed).Milliseconds(), 1)
	})
}

// A chunk that is full does not wait, however long it might.
func TestReadFullBeforeItIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		chunks, _, err := replay(t, every(time.Millisecond, 2500), costs(6*time.Millisecond, 0), func(r *reader) {
			r.policy.maxWait, r.policy.maxEvents = time.Minute, 1000
		})
		require.NoError(t, err)
		require.Len(t, chunks, 4)
		assert.Equal(t, []int{1000, 1000}, sizes(chunks)[1:3])
		assert.Less(t, chunks[1].handed.Sub(began), 3*time.Second)
		assert.Less(t, chunks[2].handed.Sub(began), 4*time.Second)
		assert.InDelta(t, time.Minute, chunks[3].handed.Sub(chunks[2].handed), float64(time.Second))
	})
}

func TestReadBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chunks, _, err := replay(t, every(0, 2500), costs(time.Second, 0), func(r *reader) {
			r.policy.maxEvents = 1000
		})
		require.NoError(t, err)
		assert.Equal(t, []int{1000, 1000, 500}, sizes(chunks))
		for i, c := range chunks[1:] { // which were read while the one before was applied
			assert.InDelta(t, time.Second, c.handed.Sub(chunks[i].handed), float64(readTakes))
		}
	})
}

// A drain takes what comes while it reads, and ends when nothing is left.
func TestReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pushes := every(readTakes, 30)
		pushes.at = append(pushes.at, time.Now().Add(500*time.Millisecond), time.Now().Add(time.Hour))
		chunks, _, err := replay(t, pushes, costs(time.Second, 0), func(r *reader) { r.policy.once = true })
		require.NoError(t, err)
		assert.Equal(t, []int{30}, sizes(chunks), "nothing was there when the next read followed")
	})
}

func TestReadBudget(t *testing.T) {
	for name, once := range map[string]bool{"drain": true, "run": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b budget
				b.left.Store(250)
				chunks, taken, err := replay(t, every(0, 1000), costs(time.Second, 0), func(r *reader) {
					r.policy.once, r.policy.maxEvents, r.budget = once, 120, &b
				})
				require.NoError(t, err)
				assert.Equal(t, []int{120, 120, 10}, sizes(chunks))
				assert.Equal(t, 250, taken)
				assert.Zero(t, b.left.Load())
			})
		})
	}
}

// After a time-out chunks are small, and grow again as the applier finds that they may.
func TestReadAfterTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := []int{2, 4, 8, 0}
		chunks, _, err := replay(t, every(0, 50), costs(time.Second, 0), func(r *reader) {
			r.limit = func() int {
				limits = append(limits[1:], 0)
				return limits[0]
			}
			r.policy.limit = limits[0]
		})
		require.NoError(t, err)
		// The second one was complete before the first one was applied.
		assert.Equal(t, []int{2, 2, 4, 8, 34}, sizes(chunks))
	})
}

// A reader that is told to stop does, also while the applier is busy, and a failed read ends it.
func TestReadEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var worked moment
		for _, n := range []int{0, 1, 1000} {
			r := &reader{
				tracker: newTracker(&worked, slog.New(slog.DiscardHandler)), source: every(0, n),
				limit: func() int { return 0 }, timeout: time.Minute, ahead: &prefetcher{},
				smaller: func(_ int, err error) error { return err },
				policy:  batchPolicy{maxEvents: 100, maxBytes: chunkBytes},
			}
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			to := newExchange()
			if n == 1000 {
				go func() { <-to.chunks }() // and is busy for ever
			}
			_, err := r.read(ctx, events.Position{}, to)
			require.NoError(t, err)
			require.Error(t, ctx.Err())
			stop()
		}
		broken := errors.New("broken")
		_, _, err := replay(t, &pushes{fails: broken}, costs(0, 0), func(r *reader) {
			r.smaller = func(entries int, err error) error {
				assert.Equal(t, pageEntries, entries)
				return fmt.Errorf("of so many: %w", err)
			}
		})
		require.EqualError(t, err, "of so many: broken")
	})
}

const (
	perChunk   = 6 * time.Millisecond
	perProfile = 200 * time.Microsecond
	capacity   = 5000.0 // events a second that are each of a profile of its own: 1 / perProfile
)

// steady is what batchPolicy says of a load, as a share of the capacity: how far apart hand-overs
// are, and how long a chunk takes to apply.
func steady(load float64) (apart, applying time.Duration) {
	const w = 10 * time.Millisecond
	takes := func(apart time.Duration) time.Duration { return perChunk + time.Duration(load*float64(apart)) }
	applying = time.Duration(float64(takes(w)) / (1 - load))
	if apart = applying + w; apart > apartFactor*w {
		apart = apartFactor * w
		applying = takes(apart)
	}
	if applying > apart {
		applying = time.Duration(float64(perChunk) / (1 - load))
		apart = applying
	}
	return apart, applying
}

// Under a steady load chunks grow with it; how large they are, and how long an event takes, is what
// batchPolicy says, and neither swings.
func TestReadSteadyLoad(t *testing.T) {
	for _, load := range []float64{0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95} {
		t.Run(fmt.Sprint(load), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				chunks, _, err := replay(t, atRandom(load*capacity, 20*time.Second), costs(perChunk, perProfile), nil)
				require.NoError(t, err)
				chunks = chunks[len(chunks)/5 : len(chunks)-1]
				var n, longest, variance, covariance float64
				for _, c := range chunks {
					n, longest = n+float64(c.n)/float64(len(chunks)), max(longest, c.longest.Seconds())
				}
				for i, c := range chunks[1:] {
					d := float64(c.n) - n
					variance, covariance = variance+d*d, covariance+d*(float64(chunks[i].n)-n)
				}
				deviation := math.Sqrt(variance / float64(len(chunks)))
				apart, applying := steady(load)
				t.Logf("chunks of %.1f (foreseen: %.1f), deviation %.1f; an event takes %.0f ms at most (foreseen: %s)",
					n, load*capacity*apart.Seconds(), deviation, 1000*longest, apart+applying)

				assert.InDelta(t, load*capacity*apart.Seconds(), n, 0.05*n+0.5)
				// Arrivals are random, and each chunk is given a part of the deviation of the one before.
				assert.Less(t, deviation, 1.2*math.Sqrt(n/(1-load*load))+1)
				assert.Greater(t, covariance/variance, -0.1, "a large chunk does not make the next one small")
				assert.Less(t, longest, 1.5*(apart+applying).Seconds())
				if load <= 0.5 {
					assert.Less(t, longest, 0.1)
				}
			})
		})
	}
}

// When the load changes, chunks come to their new size from one side.
func TestReadChangingLoad(t *testing.T) {
	const low, high = 0.1, 0.9
	synctest.Test(t, func(t *testing.T) {
		var all pushes
		now := time.Now()
		var changes []time.Time
		for _, load := range []float64{low, high, low} {
			each := time.Duration(float64(time.Second) / load / capacity)
			for end := now.Add(5 * time.Second); now.Before(end); now = now.Add(each) {
				all.at = append(all.at, now)
			}
			changes = append(changes, now)
		}
		chunks, _, err := replay(t, &all, costs(perChunk, perProfile), nil)
		require.NoError(t, err)
		few, _ := steady(low)
		many, _ := steady(high)
		least, most := low*capacity*few.Seconds(), high*capacity*many.Seconds()
		chunks = chunks[1 : len(chunks)-1] // the first one is of one event, the last one of the rest
		before := chunks[0].n
		for _, c := range chunks {
			switch n := float64(c.n); {
			case c.handed.Before(changes[0]):
				assert.InDelta(t, least, n, 2)
			case c.handed.Before(changes[1]):
				assert.GreaterOrEqual(t, c.n, before-2, "growing")
				assert.Less(t, n, 1.08*most)
			default:
				assert.LessOrEqual(t, c.n, before+2, "shrinking")
				assert.Greater(t, n, least-2)
			}
			before = c.n
		}
		assert.InDelta(t, most, slices.Max(sizes(chunks)), 0.08*most)
		assert.InDelta(t, least, before, 2)
	})
}

// Where events of a profile meet in a chunk, the capacity is what their profiles allow: chunks grow
// until it is enough.
func TestReadManyEventsOfAProfile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pushes := atRandom(4*capacity, 10*time.Second)
		pushes.profiles = 100
		chunks, _, err := replay(t, pushes, func(b *events.Batch) time.Duration {
			seen := map[int64]bool{}
			for _, e := range b.Events {
				seen[e.ProfileID] = true
			}
			return perChunk + time.Duration(len(seen))*perProfile
		}, nil)
		require.NoError(t, err)
		for _, c := range chunks[len(chunks)/5 : len(chunks)-1] {
			assert.InDelta(t, 4*capacity*0.036, c.n, 4*capacity*0.008)
			assert.Less(t, c.longest, 80*time.Millisecond)
		}
	})
}
