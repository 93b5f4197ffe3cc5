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

// scoresVerification is the outcome of verify --scores. Its names are those of the JSON form.
type scoresVerification struct {
	Profiles  int64              `json:"profiles"`
	Compared  int64              `json:"compared"`
	Different int64              `json:"different"`
	Unsettled int64              `json:"unsettled"` // not compared: they changed each time they were read
	First     []scoresDifference `json:"first"`     // of those that differ
}

type scoresDifference struct {
	ProfileID   int64    `json:"profile_id"`
	HistoryID   *int64   `json:"history_id"` // the latest row; null: there is none
	Differences []string `json:"differences"`
}

func (a *app) compareScores(ctx context.Context, pool *pgxpool.Pool, out *output) (scoresVerification, error) {
	var total int64
	err := pool.QueryRow(ctx,
		`SELECT coalesce((SELECT greatest(0, reltuples)::bigint FROM pg_class WHERE oid = `+
			`to_regclass('child_profile')), 0)`).Scan(&total)
	if err != nil {
		return scoresVerification{}, err
	}
	var done atomic.Int64
	progress := a.showProgress("comparing scores", "profiles", total, done.Load, out.json())
	report, err := audit.Scores(ctx, pool, a.cfg.History.Preferred, done.Store)
	progress.end()
	v := scoresVerification{report.Profiles, report.Compared, report.Different, report.Unsettled, []scoresDifference{}}
	for _, d := range report.First {
		v.First = append(v.First, scoresDifference{d.ProfileID, d.HistoryID, d.What})
	}
	return v, err
}

// print writes a line for the counts, and one for each of the first differences.
func (v scoresVerification) print(w io.Writer) error {
	state := "equal"
	if v.Different > 0 {
		state = grouped(v.Different) + " differ"
	}
	_, err := fmt.Fprintf(w, "scores: %s: %s of %s compared with their latest row of history\n",
		state, grouped(v.Compared), terminal.Count(v.Profiles, "profile"))
	if v.Unsettled > 0 {
		fmt.Fprintf(w, "  %s more changed each time they were read, and are not compared\n", grouped(v.Unsettled))
	}
	for _, d := range v.First {
		row := "no row"
		if d.HistoryID != nil {
			row = fmt.Sprintf("row %d", *d.HistoryID)
		}
		fmt.Fprintf(w, "  profile %d, %s: %s\n", d.ProfileID, row, strings.Join(d.Differences, "; "))
	}
	if more := v.Different - int64(len(v.First)); more > 0 {
		fmt.Fprintf(w, "  and %s more\n", grouped(more))
	}
	return err
}
