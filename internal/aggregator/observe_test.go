package aggregator_test

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/aggregator"
)

// Each settled chunk is told once, also when settling it took several tries.
func TestObserve(t *testing.T) {
	f := newFixture(t, stream)
	f.options.ChunkMaxEvents = 400
	var mu sync.Mutex
	var chunks []aggregator.Chunk
	f.options.Observe = func(c aggregator.Chunk) {
		mu.Lock()
		defer mu.Unlock()
		chunks = append(chunks, c)
	}
	began := time.Now()
	f.push(random(rand.New(rand.NewPCG(1, 1)), 1000)...)
	f.stick(400)
	s := f.start("me", 0)
	eventually(t, func() bool { return s.Status()[0].Causes["postgres_error"] >= 2 })
	f.unstick()
	eventually(t, func() bool { return s.Stats().Read == 1000 })
	s.stop()
	require.NoError(t, <-s.ended)
	f.verify()

	require.Len(t, chunks, int(s.Stats().Chunks))
	entries := 0
	for _, c := range chunks {
		entries += c.Entries
		stood := 0
		for i, sample := range c.Samples {
			stood += sample.Events
			assert.False(t, i > 0 && sample.Pushed.Before(c.Samples[i-1].Pushed), "in the order of the stream")
			assert.WithinRange(t, sample.Pushed, began.Add(-time.Second), c.At.Add(time.Second))
		}
		assert.LessOrEqual(t, len(c.Samples), 64)
		assert.LessOrEqual(t, stood, c.Entries) // junk has no part in it
		assert.Greater(t, stood, c.Entries/2)
		assert.InDelta(t, profiles, c.Profiles, profiles, "some are unknown")
		for _, took := range []time.Duration{c.Took.Read, c.Took.LookUp, c.Took.Apply, c.Took.Checkpoint, c.Took.Trim} {
			assert.Positive(t, took)
		}
	}
	assert.Equal(t, 1000, entries)
	status := s.Status()[0]
	assert.EqualValues(t, 1000, status.Trimmed)
	assert.Positive(t, status.Profiles)
	assert.Zero(t, status.InFlight)
	for _, cache := range s.Caches() {
		assert.Positive(t, cache.Misses, cache.Name)
		assert.Positive(t, cache.Hits, cache.Name)
		assert.Equal(t, 1000, cache.Capacity)
	}
}

// Small chunks share a trim. What is processed is trimmed soon all the same, and before a loop ends.
func TestSmallChunksShareTrims(t *testing.T) {
	f := newFixture(t, stream)
	f.options.TrimEvery = time.Hour
	var leftToOthers atomic.Int64 // chunks whose trim was
	f.options.Observe = func(c aggregator.Chunk) {
		if c.Took.Trim == 0 {
			leftToOthers.Add(1)
		}
	}
	s := f.start("me", 0)
	for i := range 3 {
		f.push("1:1:LIKE")
		eventually(t, func() bool { return s.Stats().Applied == int64(2*i+1) })
		f.push("2:2:LIKE")
		eventually(t, func() bool { return s.Stats().Trimmed == int64(2*i+2) })
	}
	f.push("3:3:LIKE")
	eventually(t, func() bool { return s.Stats().Applied == 7 })
	s.stop()
	require.NoError(t, <-s.ended)
	f.verify()
	assert.EqualValues(t, 7, s.Stats().Trimmed)
	assert.Positive(t, leftToOthers.Load())
}
