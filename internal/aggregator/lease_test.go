package aggregator_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/aggregator"
	"aggregator/internal/cluster"
	"aggregator/internal/events"
)

type service struct {
	*aggregator.Aggregator
	stop  context.CancelFunc
	ended chan error
	log   *logbook
}

// said is what the service has logged.
func (s *service) said() string { return s.log.String() }

// logbook keeps what is logged, for tests that wait for a word.
type logbook struct {
	mu   sync.Mutex
	kept bytes.Buffer
}

func (l *logbook) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept.Write(line)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept.String()
}

// start runs an instance of the service by this name.
func (f *fixture) start(name string, lease time.Duration) *service {
	f.t.Helper()
	ctx, stop := context.WithCancel(f.ctx)
	log := &logbook{}
	logger := slog.New(slog.NewTextHandler(io.MultiWriter(log, f.t.Output()), nil))
	s := &service{f.newWith(logger), stop, make(chan error, 1), log}
	kept := make(chan error, 1)
	if lease > 0 {
		keeper := f.keeper(name, lease, logger)
		s.Share(keeper)
		go func() { kept <- keeper.Run(ctx) }()
	} else {
		kept <- nil
	}
	go func() {
		err := s.Run(ctx)
		stop() // as when the service ends
		s.ended <- errors.Join(err, <-kept)
	}()
	f.t.Cleanup(stop)
	return s
}

func (f *fixture) keeper(name string, ttl time.Duration, log *slog.Logger) *cluster.Keeper {
	f.t.Helper()
	sources, err := events.Sources(f.redis, f.source)
	require.NoError(f.t, err)
	o := cluster.Options{
		Name: name, Version: "v", TTL: ttl, Log: log,
		Group: cluster.Group{Kind: f.source.Kind, Key: f.source.Key, Partitions: f.source.Partitions},
	}
	for _, source := range sources {
		o.Sources = append(o.Sources, source.Name())
	}
	return cluster.New(f.daemon.pool.Config(), o)
}

func (f *fixture) holder() string {
	leases, err := cluster.Leases(f.ctx, f.pool)
	require.NoError(f.t, err)
	if len(leases) != 1 {
		return ""
	}
	return leases[0].Holder
}

// eventually waits for minutes: a busy machine may be that slow.
func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 3*time.Minute, 10*time.Millisecond)
}

// One instance works, another stands by and takes over at once after a clean stop.
func TestLeaseIsHandedOver(t *testing.T) {
	f := newFixture(t, stream)
	const forever = time.Hour // the time of the lease must not be what hands it over
	first := f.start("first", forever)
	eventually(t, func() bool { return f.holder() == "first" })
	second := f.start("second", forever)

	r := rand.New(rand.NewPCG(5, 5))
	f.push(random(r, 200)...)
	eventually(t, func() bool { return first.Stats().Read == 200 })
	assert.Zero(t, second.Stats().Read)

	first.stop()
	require.NoError(t, <-first.ended)
	f.push(random(r, 200)...)
	eventually(t, func() bool { return second.Stats().Read == 200 })
	assert.Equal(t, "second", f.holder())
	second.stop()
	require.NoError(t, <-second.ended)
	assert.Empty(t, f.holder())
	f.verify()
}

// A holder that is gone without a word is succeeded when its time is over; one that
// wakes up and finds its lease with another stands by.
func TestLeaseRunsOut(t *testing.T) {
	f := newFixture(t, stream)
	sources := f.source.Key
	_, err := cluster.Acquire(f.ctx, f.pool, sources, "dead", 300*time.Millisecond)
	require.NoError(t, err)
	first := f.start("first", time.Second)
	f.push("1:1:LIKE")
	eventually(t, func() bool { return first.Stats().Read == 1 })
	require.Equal(t, "first", f.holder())

	// Another has taken it while this one was away.
	f.exec(`UPDATE aggregator.lease SET holder = 'usurper', expires_at = now() + interval '1 hour'`)
	eventually(t, func() bool { return strings.Contains(first.said(), "holder=usurper") })
	before := first.Stats().Read
	f.push("1:1:LIKE")
	f.exec(`DELETE FROM aggregator.lease`)
	eventually(t, func() bool { return first.Stats().Read == before+1 })
	first.stop()
	require.NoError(t, <-first.ended)
	f.verify()
}

// A holder that died while PostgreSQL's clock was ahead is succeeded at once when it is right.
func TestLeaseOfAClockThatWasAhead(t *testing.T) {
	f := newFixture(t, stream)
	f.exec(`INSERT INTO aggregator.lease (source, holder, acquired_at, expires_at)
		VALUES ($1, 'dead', now() + interval '1 day', now() + interval '1 day')`, f.source.Key)
	first := f.start("first", time.Second)
	f.push("1:1:LIKE")
	eventually(t, func() bool { return first.Stats().Read == 1 })
	require.Equal(t, "first", f.holder())

	// One that lives and has taken it so finds out when it renews, and stands by.
	f.exec(`UPDATE aggregator.lease SET holder = 'usurper', expires_at = now() + interval '1 day'`)
	second := f.start("second", time.Second)
	f.push("1:1:LIKE")
	eventually(t, func() bool { return first.Stats().Read+second.Stats().Read >= 2 }) // they may overlap
	first.stop()
	second.stop()
	require.NoError(t, <-first.ended)
	require.NoError(t, <-second.ended)
	f.verify()
}

func TestLeaseCanBeRepeated(t *testing.T) {
	f := newFixture(t, stream)
	for range 2 {
		held, err := cluster.Acquire(f.ctx, f.pool, "s", "a", time.Hour)
		require.NoError(t, err)
		assert.Equal(t, "a", held.Holder)
		held, err = cluster.Acquire(f.ctx, f.pool, "s", "b", time.Hour)
		require.NoError(t, err)
		assert.Equal(t, "a", held.Holder)
	}
	require.NoError(t, cluster.Release(f.ctx, f.pool, "s", "b"))
	for range 2 {
		require.NoError(t, cluster.Release(f.ctx, f.pool, "s", "a"))
	}
	held, err := cluster.Acquire(f.ctx, f.pool, "s", "b", time.Hour)
	require.NoError(t, err)
	assert.Equal(t, "b", held.Holder)
}
