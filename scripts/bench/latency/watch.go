package latency

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// Checkpoint is how many entries of the stream are settled; none if there is no
// checkpoint yet.
func Checkpoint(ctx context.Context, db *pgx.Conn, stream string) (entries int64, err error) {
	err = db.QueryRow(ctx, "SELECT entries FROM aggregator.checkpoint WHERE source = $1", stream).Scan(&entries)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return entries, err
}

// Watch looks at the checkpoint every millisecond until it has reached last, and returns
// when it saw it move. The entries up to first do not count.
func Watch(ctx context.Context, db *pgx.Conn, stream string, first, last int64) ([]Sighting, error) {
	var seen []Sighting
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for before := first; before < last; {
		entries, err := Checkpoint(ctx, db, stream)
		if err != nil {
			return nil, err
		}
		if entries > before {
			seen = append(seen, Sighting{time.Now(), entries - first})
			before = entries
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ticker.C:
		}
	}
	return seen, nil
}
