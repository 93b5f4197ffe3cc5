package faults_test

import (
	"testing"
)

// points are where the loop can be made to stop for good.
var points = []string{"after_read", "mid_pipeline", "before_checkpoint", "after_checkpoint", "before_trim", "after_trim"}

func TestKillAtEveryPoint(t *testing.T) {
	t.Parallel()
	for _, from := range []source{stream, listLeft, listRight, partitioned} {
		t.Run(from.String(), func(t *testing.T) {
			t.Parallel()
			for _, point := range points {
				t.Run(point, func(t *testing.T) {
					w := newWorld(t, setup{source: from})
					w.push(2000)

					// Killed in the first chunk, then in the third one of what was left.
					w.start("drain", "CRASH_AT="+point).crashed()
					w.start("drain", "CRASH_AT="+point+":3").crashed()

					w.finish()
				})
			}
		})
	}
}

func TestOverlappingInstances(t *testing.T) {
	t.Parallel()
	for _, from := range []source{stream, listLeft} {
		t.Run(from.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{source: from})
			w.push(4000)

			first, second := w.start("drain"), w.start("run")
			w.push(1000)

			if code := first.wait(); code != 0 {
				t.Fatalf("exit code %d\n%s", code, first.tail())
			}
			w.emptied()
			second.stop()
			w.exact()
		})
	}
}
