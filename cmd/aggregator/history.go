package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"aggregator/internal/history"
	"aggregator/internal/runs"
)

func newHistory(a *app) *cobra.Command {
	var chosen history.Selection
	var at string
	var ranks bool
	cmd := &cobra.Command{
		Use:   "history PROFILE",
		Short: "Show a profile's personality over time",
		Long: `Shows the snapshots of a child's personality, newest first: the MBTI type, the eight scores
that it comes from, and the preferred genres and topics, with what has changed since the
snapshot before. A bar points to the letter that leads, and its length is the lead. All bars are
drawn on one scale, which the last line says; no lead above zero is without a bar.

With --scores the scores of the genres and topics follow, as they are now, the ten greatest of
each, with the mean that the rule for favorites compares them with (history.preferred). They are
those of the newest snapshot, unless the application has changed them since.

A snapshot does not record which run wrote it. The run that is shown is the only drain or
process of the service at that moment; if there were several, or if its record is no longer
kept, none is shown. A dead letter that was retried by hand meanwhile does not belong to it.

Snapshots are in the order of their ids, as they were written; --at assumes that this is also
the order of time. If more than a hundred were written out of order, as by an import of old
ones, --at may miss some that are shown without it.

Snapshots that the application has deleted are left out, also as those to compare with,
unless --deleted is given. A profile that does not exist is an error (exit code 1).`,
		Example: `  aggregator history 10008
  aggregator history 10008 --limit 1 -o json
  aggregator history 10008 --limit 1 --scores
  aggregator history 10008 --at 2026-10-31`,
		Args: exactly("PROFILE"),
	}
	cmd.Flags().IntVar(&chosen.Limit, "limit", 10, "show at most this many snapshots; with --at, 1 if not given")
	cmd.Flags().StringVar(&at, "at", "",
		"the personality as it stood then: at the end of a day (2026-10-31, in UTC), or of a second (2026-10-31T12:00:00Z)")
	cmd.Flags().BoolVar(&chosen.Deleted, "deleted", false, "show deleted snapshots, too")
	cmd.Flags().BoolVar(&ranks, "scores", false, scoresUsage)
	out := addOutput(cmd)
	cmd.RunE = a.configured(func(cmd *cobra.Command, args []string) error {
		profile, err := profileID(args[0])
		if err != nil {
			return err
		}
		if chosen.Limit < 1 {
			return usageError("--limit = %d: want at least 1", chosen.Limit)
		}
		if cmd.Flags().Changed("at") {
			if chosen.Before, err = endOf(at); err != nil {
				return err
			}
			if !cmd.Flags().Changed("limit") {
				chosen.Limit = 1
			}
		}
		pool, err := a.OpenPostgres(cmd.Context(), 1)
		if err != nil {
			return err
		}
		defer pool.Close()
		snapshots, err := history.Timeline(cmd.Context(), pool, profile, chosen)
		if err != nil {
			return err
		}
		lines, err := withRuns(cmd.Context(), pool, snapshots)
		if err != nil {
			return err
		}
		now, err := a.scoresNow(cmd.Context(), pool, profile, ranks)
		if err != nil {
			return err
		}
		var text strings.Builder
		switch {
		case out.json():
			return writeJSON(a.stdout, struct {
				ProfileID int64          `json:"child_profile_id"`
				Snapshots []snapshotLine `json:"snapshots"`
				withScores
			}{profile, lines, now})
		case len(lines) == 0 && at != "":
			fmt.Fprintf(&text, "profile %d has no history at that time\n", profile)
		case len(lines) == 0:
			fmt.Fprintf(&text, "profile %d has no history yet\n", profile)
		default:
			writeTimeline(&text, a.terminal(), lines)
		}
		return a.print(&text, now)
	})
	return cmd
}

// endOf is the first moment after what a text names: a day, a second, or less.
func endOf(text string) (time.Time, error) {
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day.AddDate(0, 0, 1), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, usageError("--at = %q: want a day, 2026-10-31, or a time, 2026-10-31T12:00:00Z", text)
	}
	if t.Nanosecond() == 0 {
		return t.Add(time.Second), nil
	}
	return t.Add(time.Microsecond), nil // which is as exact as PostgreSQL is
}

// snapshotLine is a snapshot as it is shown. Its names are those of the JSON form.
type snapshotLine struct {
	history.Snapshot
	Run *runName `json:"run"` // the only one that was there; nil: none, or several
}

type runName struct {
	ID   int64  `json:"id"`
	Kind string `json:"kind"`
}

func withRuns(ctx context.Context, pool *pgxpool.Pool, snapshots []history.Snapshot) ([]snapshotLine, error) {
	lines := make([]snapshotLine, len(snapshots))
	if len(snapshots) == 0 {
		return lines, nil
	}
	first, last := snapshots[0].Created, snapshots[0].Created
	for i, s := range snapshots {
		lines[i].Snapshot = s
		if s.Created.Before(first) {
			first = s.Created
		}
		if s.Created.After(last) {
			last = s.Created
		}
	}
	during, err := runs.During(ctx, pool, first, last)
	if err != nil {
		return nil, err
	}
	for i, l := range lines {
		if l.Cause == history.Feedback {
			lines[i].Run = onlyAt(during, l.Created)
		}
	}
	return lines, nil
}

func onlyAt(during []runs.Run, t time.Time) (name *runName) {
	for _, r := range during {
		if !r.At(t) {
			continue
		}
		if name != nil {
			return nil
		}
		name = &runName{r.ID, r.Kind}
	}
	return name
}
