package latency

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// Watcher is told whenever the checkpoint of a stream moves.
type Watcher struct{ conn *pgx.Conn }

// tell makes the transaction that moves a checkpoint tell us how many entries are settled:
// PostgreSQL passes that on when it has committed, and not before.
const tell = `
CREATE OR REPLACE FUNCTION public.bench_settled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('bench_settled', NEW.entries::text);
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER bench_settled AFTER INSERT OR UPDATE ON aggregator.checkpoint
    FOR EACH ROW EXECUTE FUNCTION public.bench_settled();
LISTEN bench_settled`

// Watch begins to watch the checkpoint, of which there must be one alone, in a database
// made for a benchmark. The caller closes the Watcher.
func Watch(ctx context.Context, url string) (*Watcher, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, tell); err != nil {
		_ = conn.Close(ctx)
		return nil, fmt.Errorf("watching the checkpoint: %w", err)
	}
	return &Watcher{conn}, nil
}

// Close ends the watching.
func (w *Watcher) Close(ctx context.Context) error { return w.conn.Close(context.WithoutCancel(ctx)) }

// Until waits until the checkpoint has reached the last entry, and returns when it was
// seen to move. Entries are numbered from 1; those up to the first do not count.
func (w *Watcher) Until(ctx context.Context, first, last int64) (seen []Sighting, err error) {
	for settled := first; settled < last; {
		n, err := w.conn.WaitForNotification(ctx)
		if err != nil {
			return nil, err
		}
		at := time.Now()
		if settled, err = strconv.ParseInt(n.Payload, 10, 64); err != nil {
			return nil, err
		}
		if settled > first { // else it was told before we began
			seen = append(seen, Sighting{at, settled - first})
		}
	}
	return seen, nil
}
