package events

import (
	"context"
	"fmt"
)

// BookmarkIsOurs says whether the group was made by an aggregator: it has a count of entries, and no consumer
// ever read through it. A group of our name that another program reads through has consumers. It reads only.
func (s *Source) BookmarkIsOurs(ctx context.Context) (bool, error) {
	groups, err := s.client.XInfoGroups(ctx, s.stream).Result()
	if err != nil {
		return false, s.failed("inspecting the groups of", err)
	}
	for _, g := range groups {
		if g.Name == Group {
			return g.Consumers == 0 && g.EntriesRead > 0, nil
		}
	}
	return false, nil
}

// Between counts the entries that are after one position and not after another, and there now. It
// reads only, and takes about a second for a million.
func (s *Source) Between(ctx context.Context, after, to Position) (int64, error) {
	n, err := s.countEntries(ctx, after, to)
	if err != nil {
		return 0, fmt.Errorf("counting from %s to %s: %w", after, to, err)
	}
	return n, nil
}
