package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aggregator/internal/history"
)

func newHistory(a *app) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "history PROFILE",
		Short: "Show a profile's personality over time",
		Long: `Shows the snapshots of a child's personality, newest first: the MBTI type, the eight
scores that it comes from, and the preferred genres and topics. Deleted ones are left out.`,
		Example: `  aggregator history 10008
  aggregator history 10008 --limit 1 -o json`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().IntVar(&limit, "limit", 10, "show at most so many snapshots")
	out := addOutput(cmd)
	cmd.RunE = a.configured(func(cmd *cobra.Command, args []string) error {
		profile, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil || profile < 0 {
			return usageError("PROFILE = %q: want the id of a child profile, a whole number", args[0])
		}
		if limit < 1 {
			return usageError("--limit = %d: want at least 1", limit)
		}
		pool, err := a.openPostgres(cmd.Context(), 1)
		if err != nil {
			return err
		}
		defer pool.Close()
		timeline, err := history.Timeline(cmd.Context(), pool, profile, limit)
		if err != nil {
			return err
		}
		if out.json() {
			return writeJSON(a.stdout, map[string]any{"child_profile_id": profile, "snapshots": timeline})
		}
		if len(timeline) == 0 {
			_, err := fmt.Fprintf(a.stdout, "profile %d has no history yet\n", profile)
			return err
		}
		for _, s := range timeline {
			if err := printSnapshot(a.stdout, s); err != nil {
				return err
			}
		}
		return nil
	})
	return cmd
}

func printSnapshot(w io.Writer, s history.Snapshot) error {
	m := s.Scores
	_, err := fmt.Fprintf(w, "%s  %s  %s\n  scores  I %g  E %g   S %g  N %g   T %g  F %g   J %g  P %g\n  genres  %s\n  topics  %s\n",
		s.Created.UTC().Format(time.RFC3339), orDash(s.Type), s.Cause,
		m.I, m.E, m.S, m.N, m.T, m.F, m.J, m.P, orDash(strings.Join(s.Genres, ", ")), orDash(strings.Join(s.Topics, ", ")))
	return err
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
