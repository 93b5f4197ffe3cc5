//go:build faults

package faults_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A drain by schedule that was killed is done by the next one that starts, or by another
// instance that was there all the time; and once.
func TestScheduledDrainKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	w.sql(
		`INSERT INTO aggregator.run (key, kind, host, version, started_at, seen_at, finished_at, outcome, read, applied, dead,
			profiles, chunks)
		VALUES ('long ago', 'drain', 'h', 'v', now() - interval '2 days', now(), now(), 'done', 0, 0, 0, 0, 0)`)
	daily := fmt.Sprintf("AGGREGATOR_SCHEDULE_DRAIN=0 %d * * *", (time.Now().UTC().Hour()+12)%24)
	w.push(4000)
	for _, point := range points {
		w.start("run", daily, "CRASH_AT="+point).crashed()
	}
	const ended = `SELECT count(*) FROM aggregator.run WHERE kind = 'drain' AND due_at IS NOT NULL AND outcome = 'done'`
	require.Zero(t, w.number(ended))

	first := w.start("run", daily, "CRASH_AT=before_checkpoint")
	second, third := w.start("run", daily), w.start("run", daily)
	w.until("a drain is done", func() bool { return w.number(ended) > 0 })
	first.kill() // if it did not come to it
	second.stop()
	third.stop()
	require.EqualValues(t, 1, w.number(ended))
	w.emptied()
	w.exact()
}
