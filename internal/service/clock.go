package service

import (
	"context"
	"time"
)

// clock is how a timetable knows what time it is.
type clock struct {
	now func() time.Time
	// wait waits until that time, but for a minute at most: the clock may be set meanwhile. false: ctx has ended.
	wait func(ctx context.Context, until time.Time) bool
}

// clockBy goes by what now says. How long it waits is told by the monotonic clock.
func clockBy(now func() time.Time) clock {
	return clock{now, func(ctx context.Context, until time.Time) bool {
		return rest(ctx, min(until.Sub(now()), time.Minute)) && ctx.Err() == nil
	}}
}

// rest waits; false says that ctx has ended.
func rest(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// every does something at each interval until ctx ends.
func every(ctx context.Context, interval time.Duration, do func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			do()
		}
	}
}
