// Package baseline does the work of the aggregator in other ways, for benchmarks only: as pure SQL, the yardstick;
// and as the job did it that the aggregator replaces, step by step. None of these is safe to run for real: events
// are lost or doubled by a crash.
package baseline

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"aggregator/scripts/loadgen/workload"
)

//go:embed pure.sql
var pureSQL string

//go:embed state.sql
var stateSQL string

// Rows are the events as COPY takes them: profile, book and weight of each. All must be events: pure SQL knows no
// dead letters.
func Rows(events workload.Source) []byte {
	var rows bytes.Buffer
	for i := range events.Len() {
		e := events.At(i)
		weight := 2
		if !e.Like {
			weight = -2
		}
		fmt.Fprintf(&rows, "%d\t%d\t%d\n", e.Profile, e.Book, weight)
	}
	return rows.Bytes()
}

// PureSQL applies the rows in one session and one transaction, set by set: the least work that leads to the same
// scores, history and favorites. It writes no marks, so that nothing says later whether it has run.
func PureSQL(ctx context.Context, url string, rows []byte) error {
	db, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer db.Close(ctx)
	prepare, apply, _ := strings.Cut(pureSQL, "-- filled here\n")
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, prepare); err != nil {
			return fmt.Errorf("preparing: %w", err)
		}
		if _, err := db.PgConn().CopyFrom(ctx, bytes.NewReader(rows), "COPY event FROM STDIN"); err != nil {
			return fmt.Errorf("copying the events: %w", err)
		}
		_, err := tx.Exec(ctx, apply)
		return err
	})
}

// State is a fingerprint of what a database holds in the end: the scores, and the latest history of each profile
// with its favorites. How many chunks led to it leaves no trace.
func State(ctx context.Context, url string) (fingerprint string, err error) {
	db, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer db.Close(ctx)
	err = db.QueryRow(ctx, stateSQL).Scan(&fingerprint)
	return fingerprint, err
}
