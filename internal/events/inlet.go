package events

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// inlet moves what producers push to a list into the stream beside it. The move is one
// script, so that an element is always in exactly one of the two.
type inlet struct {
	client redis.UniversalClient
	list   string
	stream string
	side   string // that producers push to
}

// Elements moved by one call: Redis does nothing else meanwhile, 5 ms or so.
const moveAtOnce = 1000

// move moves the oldest elements to the stream and returns how many. If it fails, some
// may have been moved; to call it again is safe.
func (in *inlet) move(ctx context.Context) (int64, error) {
	n, err := moveScript.Run(ctx, in.client, []string{in.list, in.stream}, in.side, moveAtOnce).Int64()
	if err != nil {
		return 0, ofRedis(fmt.Errorf("moving list %s to stream %s: %w", in.list, in.stream, err))
	}
	return n, nil
}

// wait waits until something is in the list, but no longer than d. It polls: Redis has no command that waits
// for a list without taking from it.
func (in *inlet) wait(ctx context.Context, d time.Duration) error {
	const interval = 25 * time.Millisecond
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		n, err := in.client.LLen(ctx, in.list).Result()
		if err != nil {
			return ofRedis(fmt.Errorf("waiting for list %s: %w", in.list, err))
		}
		if n > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return nil
		case <-tick.C:
		}
	}
}

// peek reads elements of the list without moving them, oldest first, from the given
// place on.
func (in *inlet) peek(ctx context.Context, from, n int64) ([]string, error) {
	first, last := from, from+n-1
	if in.side == PushLeft {
		first, last = -(from + n), -(from + 1)
	}
	elements, err := in.client.LRange(ctx, in.list, first, last).Result()
	if err != nil {
		return nil, ofRedis(fmt.Errorf("reading list %s: %w", in.list, err))
	}
	if in.side == PushLeft {
		for i, j := 0, len(elements)-1; i < j; i, j = i+1, j-1 {
			elements[i], elements[j] = elements[j], elements[i]
		}
	}
	return elements, nil
}
