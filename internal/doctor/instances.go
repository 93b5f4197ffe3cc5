package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/cluster"
)

// Instances looks at those that share the sources of a group: whether one with these settings
// would do double work beside them, or they divide the key in another way.
func Instances(ctx context.Context, pool *pgxpool.Pool, group cluster.Group, ttl time.Duration) []Finding {
	r := &report{server: "postgres"}
	members, now, err := cluster.Members(ctx, pool)
	if err != nil {
		r.notSeen("instances", err)
		return r.findings
	}
	var same, other []string
	for _, m := range members {
		switch {
		case !m.Lives(now):
		case m.Group == group:
			same = append(same, m.Instance)
		case m.Group.Key == group.Key:
			other = append(other, fmt.Sprintf("%s (%s)", m.Instance, m.Group))
		}
	}
	switch {
	case len(other) > 0:
		r.add("instances", Warning,
			fmt.Sprintf("these drain the same key in another way than %s: %s", group, strings.Join(other, ", ")),
			"give all instances, and the producers, the same source.kind and source.partitions")
	case len(same) > 0 && ttl == 0:
		r.add("instances", Warning,
			fmt.Sprintf("lease.ttl is 0s here, and %d with leases share these sources: one without drains all of them as well",
				len(same)),
			"exact, but double work: give all instances the same lease.ttl")
	default:
		r.ok("instances", "%d share the sources", len(same))
	}
	return r.findings
}
