package oracle

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"aggregator/scripts/loadgen/journal"
	"aggregator/scripts/loadgen/workload"
)

// Leftover is a key that should hold nothing any more.
type Leftover struct {
	Key     string `json:"key"`
	Entries int64  `json:"entries"`
}

// Leftovers looks for entries left in the lists and streams of the pushes.
func Leftovers(ctx context.Context, db redis.UniversalClient, runs []*journal.Run) ([]Leftover, error) {
	var left []Leftover
	for _, run := range runs {
		if run.Settings.Kind == workload.List {
			for _, key := range run.Settings.Keys() {
				n, err := db.LLen(ctx, key).Result()
				if err != nil {
					return nil, fmt.Errorf("looking into the list %s: %w", key, err)
				}
				left = append(left, Leftover{key, n})
			}
		}
		for _, key := range run.Settings.Streams() {
			n, err := db.XLen(ctx, key).Result()
			if err != nil {
				return nil, fmt.Errorf("looking into the stream %s: %w", key, err)
			}
			left = append(left, Leftover{key, n})
		}
	}
	slices.SortFunc(left, func(a, b Leftover) int { return strings.Compare(a.Key, b.Key) })
	left = slices.CompactFunc(left, func(a, b Leftover) bool { return a.Key == b.Key })
	return slices.DeleteFunc(left, func(l Leftover) bool { return l.Entries == 0 }), nil
}
