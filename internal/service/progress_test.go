package service

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/internal/aggregator"
	"aggregator/internal/runs"
)

// A line says what was settled in the last ten seconds; none says that nothing was.
func TestLogProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		var now atomic.Pointer[aggregator.Stats]
		settled := func(s aggregator.Stats) { now.Store(&s) }
		settled(aggregator.Stats{Counts: runs.Counts{Read: 100}})
		ctx, cancel := context.WithCancel(t.Context())
		go logProgress(ctx, func() aggregator.Stats { return *now.Load() }, slog.New(slog.NewTextHandler(&said, nil)))
		synctest.Wait()

		settled(aggregator.Stats{Counts: runs.Counts{Read: 110, Applied: 6, Dead: 1, Profiles: 4, Chunks: 2}, Skipped: 3})
		time.Sleep(10*time.Second + 1)
		synctest.Wait()
		require.Contains(t, said.String(), "msg=settled read=10 applied=6 dead=1 settled_before=3 chunks=2 profiles=4\n")

		said.Reset()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, said.String())

		settled(aggregator.Stats{Counts: runs.Counts{Read: 111, Applied: 7, Dead: 1, Profiles: 5, Chunks: 3}, Skipped: 3})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Contains(t, said.String(), "msg=settled read=1 applied=1 dead=0 settled_before=0 chunks=1 profiles=1\n")
		cancel()
		synctest.Wait()
		time.Sleep(time.Hour)
		require.Equal(t, 1, strings.Count(said.String(), "\n"))
	})
}

func TestEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		var at []time.Duration
		every(ctx, time.Minute, func() {
			at = append(at, time.Since(began))
			if len(at) == 3 {
				cancel()
			}
		})
		require.Equal(t, []time.Duration{time.Minute, 2 * time.Minute, 3 * time.Minute}, at)
	})
}

func TestRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		require.True(t, rest(t.Context(), time.Hour))
		require.Equal(t, time.Hour, time.Since(began))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.False(t, rest(ctx, time.Hour))
		require.Equal(t, time.Hour+time.Minute, time.Since(began))
	})
}

// A wait ends when the time has come, or after a minute: the clock may have been set meanwhile.
func TestClockWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clockBy(time.Now)
		for ahead, want := range map[time.Duration]time.Duration{
			-time.Hour: 0, time.Second: time.Second, time.Minute: time.Minute, time.Hour: time.Minute,
		} {
			began := c.now()
			require.True(t, c.wait(t.Context(), began.Add(ahead)))
			require.Equal(t, want, c.now().Sub(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.False(t, c.wait(ctx, c.now().Add(-time.Hour)))
	})
}
