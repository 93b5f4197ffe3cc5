//go:build faults

package faults_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/config"
)

// backlog is how many events TestShapes drains at last: ten chunks.
const backlog = 100_000

func TestKillAtRandom(t *testing.T) {
	t.Parallel()
	for _, from := range []source{stream, listLeft, listRight, partitioned} {
		t.Run(from.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{source: from})
			pushed := w.load(700, 8*time.Second)
			for range 12 {
				d := w.start("run")
				time.Sleep(150*time.Millisecond + rand.N(500*time.Millisecond)) // the fault
				d.kill()
			}
			pushed()
			w.finish()
		})
	}
}

// TestManyInstances runs several without a lease: correctness must not depend on it.
func TestManyInstances(t *testing.T) {
	t.Parallel()
	for _, instances := range []int{2, 4} {
		for _, from := range []source{stream, listRight, partitioned} {
			t.Run(fmt.Sprintf("%d on a %s", instances, from), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, setup{source: from})
				w.push(3000)
				var all []*daemon
				for range instances {
					all = append(all, w.start("run"))
				}
				pushed := w.load(500, 4*time.Second)
				for i, d := range all {
					all[i] = w.outlast(d)
				}
				pushed()
				w.emptied()
				for _, d := range all {
					d.stop()
				}
				w.exact()
			})
		}
	}
}

// TestZombie lets one instance sleep at a point while another does all there is, and then
// go on as if nothing had been.
func TestZombie(t *testing.T) {
	t.Parallel()
	for _, from := range []source{stream, listLeft} {
		for _, point := range points {
			t.Run(from.String()+", "+point, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, setup{source: from})
				w.push(1500)
				zombie := w.pauseAt(point, "run")
				w.drain()
				w.push(700)
				w.drain()

				zombie.goOn()
				w.push(700)
				w.emptied()
				zombie.stop()
				w.exact()
			})
		}
	}
}

// TestResetBesideAZombie resets a source while an instance without a lease stands at a point,
// with events in hand and a checkpoint in mind that are of before. It then goes on beside
// others. What it does from then on must either fail or count in the new books: nothing may be
// doubled, and nothing passed over.
func TestResetBesideAZombie(t *testing.T) {
	t.Parallel()
	for _, from := range []source{stream, listLeft} {
		for _, point := range points {
			for _, others := range []int{0, 900, 1800} { // what another drains since: less and more than was drained before
				t.Run(fmt.Sprintf("%s, %s, others: %d", from, point, others), func(t *testing.T) {
					t.Parallel()
					w := newWorld(t, setup{source: from, env: []string{"AGGREGATOR_TRIM_RETAIN=1h"}})
					w.keepScores()
					w.push(1500)
					w.drain()
					w.push(700)
					zombie := w.pauseAt(point, "run")
					w.reset() // which waits for what is in flight
					w.putScoresBack()
					if others > 0 {
						limited := w.start("drain", "--max-events", strconv.Itoa(others)) // it ends with events left
						require.Equal(t, 75, limited.wait(), "%s", limited.tail())
					}
					zombie.goOn()
					w.push(300)
					w.until("all is settled",
						func() bool { return w.number("SELECT sum(entries - base) FROM aggregator.checkpoint") == 2500 })
					zombie.stop()
					w.drain()

					w.forgetAside()
					w.exact("--skip-redis")
					books := w.start("verify")
					require.Zero(t, books.wait(), "%s", books.tail())
				})
			}
		}
	}
}

// TestResetBesideAFirstAttempt is the same for an attempt that had seen no bookmark, and settled events are
// trimmed at once: what it then trims, by a checkpoint of before, nobody can read again.
func TestResetBesideAFirstAttempt(t *testing.T) {
	t.Parallel()
	for _, from := range []source{stream, listLeft} {
		for _, point := range points[:len(points)-1] { // after the trim there is nothing left to read again
			t.Run(from.String()+", "+point, func(t *testing.T) {
				t.Parallel()
				w := resetBesideFirst(t, newWorld(t, setup{source: from}), point)
				w.finish()
			})
		}
	}
}

// resetBesideFirst leaves the world drained, and the first attempt stopped.
func resetBesideFirst(t *testing.T, w *world, point string) *world {
	t.Helper()
	w.keepScores()
	w.push(1500)
	first := w.pauseAt(point, "run")
	w.reset()
	w.putScoresBack()
	limited := w.start("drain", "--max-events", "300")
	require.Equal(t, 75, limited.wait(), "%s", limited.tail())
	first.goOn()
	w.push(300)
	w.emptied()
	first.stop()
	w.forgetAside()
	return w
}

// TestFrozen stops a daemon for longer than any time-out of its own, of its connections
// and of the servers (the longest is 60 s), in the midst of its work.
func TestFrozen(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"after_read", "mid_pipeline", "before_checkpoint", "anywhere"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{})
			w.push(2000)
			var frozen *daemon
			if point == "anywhere" {
				frozen = w.start("run")
			} else {
				p := w.pauseAt(point, "run")
				defer p.goOn()
				frozen = p.daemon
				frozen.signal(syscall.SIGSTOP)
				p.goOn()
			}
			frozen.signal(syscall.SIGSTOP)
			other := w.start("run")
			w.load(100, 66*time.Second)()

			frozen.signal(syscall.SIGCONT)
			w.load(300, 2*time.Second)()
			w.emptied()
			frozen.stop()
			other.stop()
			w.exact()
		})
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	t.Run("under load", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, setup{})
		pushed := w.load(700, 6*time.Second)
		for range 8 {
			d := w.start("run")
			d.said("draining")
			time.Sleep(rand.N(400 * time.Millisecond)) // the fault
			require.Less(t, measure(d.stop), config.Default().Shutdown.Grace)
		}
		pushed()
		w.finish()
	})
	t.Run("with PostgreSQL down", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, setup{postgres: own})
		w.push(2000)
		d := w.pauseAt("mid_pipeline", "run")
		require.NoError(t, w.postgres.Crash())
		d.goOn()
		d.said("retrying from the checkpoint")
		require.Less(t, measure(d.stop), config.Default().Shutdown.Grace)
		require.NoError(t, w.postgres.Start(t.Context()))
		w.finish()
	})
	t.Run("with PostgreSQL frozen, within the grace", func(t *testing.T) {
		t.Parallel()
		w, d := frozenPostgres(t, 3*time.Second)
		took := measure(d.stop)
		require.Greater(t, took, 2*time.Second, "it uses its grace")
		require.Less(t, took, 15*time.Second, "and little more")
		w.thaw()
		w.finish()
	})
	t.Run("twice", func(t *testing.T) {
		t.Parallel()
		w, d := frozenPostgres(t, time.Minute)
		d.signal(syscall.SIGTERM)
		time.Sleep(500 * time.Millisecond) // a second signal at once may be one with the first
		require.True(t, d.running())
		took := measure(func() {
			d.signal(syscall.SIGTERM)
			d.wait()
		})
		status, _ := d.cmd.ProcessState.Sys().(syscall.WaitStatus)
		require.Equal(t, syscall.SIGTERM, status.Signal())
		require.Less(t, took, 30*time.Second, "it does not use its grace")
		w.thaw()
		w.finish()
	})
}

// frozenPostgres is a daemon with transactions in flight to a server that stands still.
func frozenPostgres(t *testing.T, grace time.Duration) (*world, paused) {
	w := newWorld(t, setup{postgres: own, env: []string{"AGGREGATOR_SHUTDOWN_GRACE=" + grace.String()}})
	w.push(2000)
	d := w.pauseAt("after_read", "run")
	w.freeze()
	d.goOn()
	return w, d
}

func measure(do func()) time.Duration {
	began := time.Now()
	do()
	return time.Since(began)
}
