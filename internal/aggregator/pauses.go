package aggregator

import (
	"time"

	"github.com/cenkalti/backoff/v5"
)

// longestPause is the longest pause after a turn that failed.
const longestPause = 30 * time.Second

// pauses are those of a loop after turns that failed: each longer than the one before, by chance a half more or
// less, so that instances do not come back all at once.
type pauses struct{ *backoff.ExponentialBackOff }

func newPauses() pauses {
	p := pauses{backoff.NewExponentialBackOff()}
	p.InitialInterval = 100 * time.Millisecond
	p.MaxInterval = longestPause * 2 / 3 // a half more of that is the longest
	return p
}

// forget starts again with a short pause: a turn went well, or processed something before it failed.
func (p pauses) forget() { p.Reset() }

// next is how long to wait after a turn that lasted so long and failed. One that lasted longer than any pause had gone
// well for a while, or was pause enough: what failed before it does not count any more.
func (p pauses) next(lasted time.Duration) time.Duration {
	if lasted > longestPause {
		p.forget()
	}
	return p.NextBackOff()
}
