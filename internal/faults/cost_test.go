//go:build faults

package faults_test

import (
	"cmp"
	"os"
	"testing"
	"time"

	"github.com/prometheus/procfs"
	"github.com/stretchr/testify/require"
)

// TestCostOfMore measures the processor time of one and of several instances for the same load, alone and with
// that of both servers. It demands nothing. COST_OF_MORE is for how long each is under load.
func TestCostOfMore(t *testing.T) {
	lasting, err := time.ParseDuration(cmp.Or(os.Getenv("COST_OF_MORE"), "3s"))
	require.NoError(t, err, "COST_OF_MORE")
	for _, instances := range []int{1, 2, 4, 8} {
		w := newWorld(t, setup{source: sharedSource, env: []string{"AGGREGATOR_LEASE_TTL=5s", "AGGREGATOR_LOG_LEVEL=info"}})
		w.malformed = "0.01"
		var all []*daemon
		for range instances {
			all = append(all, w.start("run"))
		}
		w.until("the sources are shared", func() bool {
			return w.number(`SELECT count(DISTINCT holder) FROM aggregator.lease WHERE expires_at > now()`) == int64(instances)
		})
		w.load(20_000, time.Second)() // each instance gets to know the profiles and books
		w.emptied()
		used := func() (instances, servers time.Duration) {
			for _, d := range all {
				instances += processorTime(t, d.cmd.Process.Pid)
			}
			return instances, processorTime(t, w.redis.PID()) + processorTime(t, w.postgres.PID())
		}
		for _, load := range []struct {
			name    string
			rate    int // events a second
			lasting time.Duration
		}{{"600 events/s", 600, lasting}, {"1,500 events/s", 1500, lasting}, {"a backlog", 20_000, lasting / 5}} {
			instancesBefore, serversBefore := used()
			done := w.applied()
			w.load(load.rate, load.lasting)()
			w.emptied()
			own, servers := used()
			own, servers = own-instancesBefore, servers-serversBefore
			events := w.applied() - done
			each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(events) }
			t.Logf("%d instances, %s: for each of %d events %.1f µs of processor time, and %.1f µs with the servers",
				instances, load.name, events, each(own), each(own+servers))
		}
		for _, d := range all {
			d.stop()
		}
		w.exact()
	}
}

func (w *world) applied() int64 {
	return w.number(`SELECT sum(entries - base)::bigint FROM aggregator.checkpoint`)
}

// processorTime is what a process has used so far, with its children that are alive or were waited for. The
// kernel counts in hundredths of a second.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	all, err := procfs.AllProcs()
	require.NoError(t, err)
	ticks := 0
	for _, process := range all {
		stat, err := process.Stat()
		if err == nil && (stat.PID == pid || stat.PPID == pid) { // else it has ended meanwhile
			ticks += int(stat.UTime+stat.STime) + stat.CUTime + stat.CSTime
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
