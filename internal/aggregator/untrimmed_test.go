package aggregator

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestUntrimmedIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := untrimmed{since: time.Now()}
		for _, c := range []struct {
			entries int
			passed  time.Duration
			due     bool
		}{{1, 0, false}, {99, 499 * time.Millisecond, false}, {100, 0, true}, {1, 500 * time.Millisecond, true}} {
			time.Sleep(c.passed - time.Since(u.since))
			u.entries = c.entries
			assert.Equal(t, c.due, u.due(), "%+v", c)
		}
	})
}
