package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/audit"
	"aggregator/internal/terminal"
)

func (a *app) compareScores(ctx context.Context, pool *pgxpool.Pool, out *output) (audit.ScoresReport, error) {
	var total int64
	err := pool.QueryRow(ctx,
		`SELECT coalesce((SELECT greatest(0, reltuples)::bigint FROM pg_class WHERE oid = `+
			`to_regclass('child_profile')), 0)`).Scan(&total)
	if err != nil {
		return audit.ScoresReport{}, err
	}
	var done atomic.Int64
	progress := a.showProgress("comparing scores", "profiles", total, done.Load, out.json())
	report, err := audit.Scores(ctx, pool, a.cfg.History.Preferred, done.Store)
	progress.end()
	return report, err
}

// printScores writes a line for the counts, and one for each of the first differences.
func printScores(w io.Writer, r audit.ScoresReport) error {
	state := "equal"
	if r.Different > 0 {
		state = grouped(r.Different) + " differ"
	}
	_, err := fmt.Fprintf(w, "scores: %s: %s of %s compared with their latest row of history\n",
		state, grouped(r.Compared), terminal.Count(r.Profiles, "profile"))
	if r.Unsettled > 0 {
		fmt.Fprintf(w, "  %s more changed each time they were read, and are not compared\n", grouped(r.Unsettled))
	}
	for _, d := range r.First {
		row := "no row"
		if d.HistoryID != nil {
			row = fmt.Sprintf("row %d", *d.HistoryID)
		}
		fmt.Fprintf(w, "  profile %d, %s: %s\n", d.ProfileID, row, strings.Join(d.What, "; "))
	}
	if more := r.Different - int64(len(r.First)); more > 0 {
		fmt.Fprintf(w, "  and %s more\n", grouped(more))
	}
	return err
}
