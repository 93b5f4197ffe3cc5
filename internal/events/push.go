package events

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Pushed is where an event was pushed to.
type Pushed struct {
	Key      string   // of the stream or list
	Position Position // in the stream; zero of a list
}

// Push adds one event to that of the sources which producers use for its profile: profile id modulo their number. It
// is for trying out, and adds exactly what producers do. Each call adds one. After an error the event may have been
// added, if only the reply was lost.
func Push(ctx context.Context, sources []*Source, e Event) (Pushed, error) {
	s := sources[uint64(e.ProfileID)%uint64(len(sources))]
	text := e.appendText(nil)
	if s.inlet != nil {
		push := s.client.LPush
		if s.inlet.side == PushRight {
			push = s.client.RPush
		}
		if err := push(ctx, s.inlet.list, text).Err(); err != nil {
			return Pushed{}, ofRedis(fmt.Errorf("pushing to list %s: %w", s.inlet.list, err))
		}
		return Pushed{Key: s.inlet.list}, nil
	}
	id, err := s.client.XAdd(ctx, &redis.XAddArgs{Stream: s.stream, Values: []any{"event", text}}).Result()
	if err != nil {
		return Pushed{}, s.failed("pushing to", err)
	}
	at, err := ParsePosition(id)
	return Pushed{s.stream, at}, err
}
