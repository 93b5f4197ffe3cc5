//go:build faults

package faults_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// tolerant is a daemon that does not stop when most of what it reads is dead.
var tolerant = []string{"AGGREGATOR_DEAD_MAX_SHARE=1"}

// TestPoison pushes nothing but junk, of every kind that the load generator knows, or junk
// among events.
func TestPoison(t *testing.T) {
	t.Parallel()
	for _, from := range []source{stream, listLeft, listRight, partitioned} {
		for _, share := range []string{"0.3", "0.95"} {
			for _, wire := range []string{"event", "fields"} {
				if from.kind == "list" && wire == "fields" {
					continue
				}
				t.Run(fmt.Sprintf("%s, %s, %s junk", from, wire, share), func(t *testing.T) {
					t.Parallel()
					w := newWorld(t, setup{source: from, env: tolerant})
					w.push(3000, "--malformed", share, "--unknown", "0.05", "--wire", wire)
					w.start("run", "CRASH_AT=mid_pipeline").crashed()
					d := w.start("run")
					w.emptied()
					d.stop()
					w.exact()
				})
			}
		}
	}
}

// TestRefusedByTheDatabase has rules of the application's that refuse some events: they are
// dead letters with the SQLSTATE, and all others are applied.
func TestRefusedByTheDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{env: tolerant})
	w.sql("ALTER TABLE genre_score ADD CONSTRAINT bounded CHECK (abs(score) <= 20)")
	w.push(2000)
	d := w.start("run")
	w.emptied()
	d.stop()
	r := w.compare()
	t.Log(r)
	require.Zero(t, r.Doubled-w.number("SELECT count(*) FROM aggregator.dead_letter WHERE sqlstate = '23514'"),
		"each refused event is a letter that the oracle does not expect")
	require.Equal(t, r.Pushed,
		w.number("SELECT sum(applied)::bigint FROM aggregator.mark")+w.number("SELECT count(*) FROM aggregator.dead_letter"))
	require.Zero(t, w.number("SELECT count(*) FROM genre_score WHERE abs(score) > 20"))
}

// TestMemory prints and bounds the most memory that the daemon uses, whatever comes in.
func TestMemory(t *testing.T) {
	t.Parallel()
	const mebibyte = 1 << 20
	cases := []struct {
		name   string
		events int
		most   int64 // bytes
		flags  []string
	}{
		{"usual events", 100_000, 256 * mebibyte, nil},
		{
			"one profile", 300_000, 256 * mebibyte,
			[]string{"--profiles", "1", "--malformed", "0", "--unknown", "0", "--duplicates", "0"},
		},
		{
			"a profile each", 200_000, 400 * mebibyte,
			[]string{"--profiles", "100000000", "--profile-dist", "uniform", "--malformed", "0"},
		},
		{"all junk", 100_000, 256 * mebibyte, []string{"--malformed", "1", "--unknown", "0"}},
		{
			"junk of a megabyte", 300, 1024 * mebibyte,
			[]string{"--malformed", "1", "--unknown", "0", "--junk-size", strconv.Itoa(mebibyte), "--pipeline", "10"},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, setup{env: append([]string{"AGGREGATOR_CHUNK_MAX_EVENTS=50000"}, tolerant...)})
			w.push(c.events, c.flags...)
			began := time.Now()
			d := w.start("run")
			w.emptied()
			took := time.Since(began)
			peak := d.peakMemory()
			d.stop()
			t.Logf("%s: %d events, %.1f s, peak memory %d MiB", c.name, c.events, took.Seconds(), peak/mebibyte)
			w.exact()
			require.Less(t, peak, c.most)
		})
	}
}

// TestHugeEntries has entries that are no events, of a megabyte each, after some that are:
// more than the daemon could hold at once.
func TestHugeEntries(t *testing.T) {
	const entries, size, most = 1000, 1 << 20, 1 << 30
	w := newWorld(t, setup{env: tolerant})
	w.push(500)
	for range entries {
		add := &redis.XAddArgs{Stream: w.keys()[0], Values: []any{"event", make([]byte, size)}}
		require.NoError(t, w.client.XAdd(t.Context(), add).Err())
	}
	w.push(500)
	began := time.Now()
	d := w.start("run", "AGGREGATOR_CHUNK_MAX_EVENTS=50000")
	w.emptied()
	peak := d.peakMemory()
	t.Logf("%d entries of a mebibyte: %.1f s, peak memory %d MiB", entries, time.Since(began).Seconds(), peak>>20)
	d.stop()
	require.Equal(t, int64(entries),
		w.number("SELECT count(*) FROM aggregator.dead_letter WHERE octet_length(payload) = $1", size))
	require.Less(t, peak, int64(most))
}
