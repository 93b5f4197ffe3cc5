package deadletter

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/events"
)

// CountUnsettled counts the dead letters of all sources that are neither applied nor dropped, by reason.
func CountUnsettled(ctx context.Context, pool *pgxpool.Pool) (map[events.Reason]int64, error) {
	count := make(map[events.Reason]int64)
	rows, err := pool.Query(ctx,
		`SELECT reason, count(*) FROM aggregator.dead_letter WHERE settled_at IS NULL GROUP BY reason`)
	if err != nil {
		return nil, fmt.Errorf("counting dead letters: %w", err)
	}
	var reason events.Reason
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&reason, &n}, func() error {
		count[reason] = n
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("counting dead letters: %w", err)
	}
	return count, nil
}
