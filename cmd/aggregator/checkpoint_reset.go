package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"aggregator/internal/aggregator"
	"aggregator/internal/events"
	"aggregator/internal/runs"
	"aggregator/internal/service"
)

func newCheckpointReset(a *app) *cobra.Command {
	var yes, dryRun bool
	cmd := &cobra.Command{
		Use:   "reset",
		Short: "Reset the checkpoint, so that every entry still in Redis counts again",
		Long: `Resets the source of the settings, with all its partitions: the checkpoint, the marks of all
profiles, and the bookmark in Redis. All entries in Redis are then read from the beginning and
counted. Use it for a stream that was recreated, so that its ids are those of another one, or
after scores were restored by hand.

WARNING: entries that are still in Redis (trim.retain, other consumer groups) and were counted
before are counted a second time. With --dry-run it changes nothing and says how many these
are; without either flag it does the same and exits with 64.

Stop the service first. While it holds the source, or a drain is running, the command exits
with 75. Earlier dead letters are archived: they are listed under another source, such as
book-like-events@1, and can be retried and dropped as usual. Those whose entries will be read
again are dropped. The reset is atomic, also with kill -9.`,
		Example: `  aggregator checkpoint reset --dry-run
  aggregator checkpoint reset --yes
  aggregator checkpoint reset --yes -o json`,
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "confirm the reset")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what it would do, and change nothing")
	out := addOutput(cmd)
	cmd.RunE = a.configured(func(cmd *cobra.Command, _ []string) error {
		if yes && dryRun {
			return usageError("want --yes or --dry-run, not both")
		}
		to, err := a.Connect(cmd.Context(), 3, 2)
		if err != nil {
			return err
		}
		defer to.Close()
		if !yes {
			what, err := previewReset(cmd.Context(), to)
			if err != nil {
				return err
			}
			if !dryRun {
				return usageError("this would %s; pass --yes to confirm", what)
			}
			_, err = fmt.Fprintln(a.stdout, "would", what)
			return err
		}
		report, err := a.reset(cmd.Context(), to)
		if err != nil {
			return err
		}
		if out.json() {
			return writeJSON(a.stdout, map[string]any{"sources": report})
		}
		for _, line := range report {
			if err := line.print(a.stdout); err != nil {
				return err
			}
		}
		return nil
	})
	return cmd
}

// previewReset says what a reset would do, as in "reset book-like-events: ...".
func previewReset(ctx context.Context, to *service.Servers) (string, error) {
	var total aggregator.ResetPreview
	var names []string
	for _, source := range to.Sources {
		f, err := aggregator.PreviewReset(ctx, to.Pool, source)
		if err != nil {
			return "", err
		}
		total.Held += f.Held
		total.Again += f.Again
		names = append(names, source.Name())
	}
	if len(names) > 3 {
		names = []string{names[0], "...", names[len(names)-1]}
	}
	text := "reset " + strings.Join(names, ", ")
	switch total.Held {
	case 0:
		return text + ": there is no entry in Redis that would be counted", nil
	case 1:
		text += ": the only entry in Redis would be counted from the beginning"
	default:
		text += fmt.Sprintf(": all %s entries in Redis would be counted from the beginning", grouped(total.Held))
	}
	if total.Again > 0 {
		text += fmt.Sprintf(", %s of them a second time if they were counted before", grouped(total.Again))
	}
	return text, nil
}

// reset resets the sources, if no instance works on them.
func (a *app) reset(ctx context.Context, to *service.Servers) (report []resetLine, err error) {
	if err := noDrains(ctx, to.Pool); err != nil {
		return nil, err
	}
	do := func(ctx context.Context) error {
		record := runs.Job{Kind: kindReset}
		return a.Recorder(to.Pool).Record(ctx, record, func() (runs.Outcome, error) {
			report, err = resetSources(ctx, to)
			return runs.Done, err
		})
	}
	err = a.holding(ctx, to.Pool, to.Sources, do)
	var held *service.HeldError
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &held):
		err = tag(service.ErrElsewhere, fmt.Errorf("%w; stop the service first", err))
	case errors.As(err, &refused) && (refused.Code == "55P03" || refused.Code == "40P01"): // a lock could not be had
		err = tag(service.ErrElsewhere, fmt.Errorf("another session is at work: %w; nothing was changed", err))
	}
	return report, err
}

const kindReset = "reset"

// noDrains fails if a drain is running, as far as is known. A drain that is not known does no harm.
func noDrains(ctx context.Context, pool *pgxpool.Pool) error {
	drains, err := runs.Latest(ctx, pool, runs.KindDrain, 100)
	if err != nil {
		return err
	}
	for _, d := range drains {
		if d.Outcome == runs.Running {
			return tag(service.ErrElsewhere,
				fmt.Errorf("a drain is running on %s since %s, or was killed within this minute; wait for its end",
					d.Host, d.Started.UTC().Format(time.RFC3339)))
		}
	}
	return nil
}

// holding does something while it holds the leases of all sources, so that no service begins.
func (a *app) holding(ctx context.Context, pool *pgxpool.Pool, sources []*events.Source,
	do func(context.Context) error,
) error {
	if len(sources) == 0 {
		return do(ctx)
	}
	return a.Alone(ctx, pool, sources[0].Name(), func(ctx context.Context) error {
		return a.holding(ctx, pool, sources[1:], do)
	})
}

func resetSources(ctx context.Context, to *service.Servers) ([]resetLine, error) {
	lines := make([]resetLine, len(to.Sources))
	for i, source := range to.Sources {
		f, err := aggregator.PreviewReset(ctx, to.Pool, source)
		if err != nil {
			return nil, err
		}
		lines[i] = resetLine{Source: source.Name(), Held: f.Held, Again: f.Again}
	}
	done, err := aggregator.Reset(ctx, to.Pool, to.Sources)
	if err != nil {
		return nil, err
	}
	for i, d := range done {
		lines[i].Was, lines[i].Epoch = d.Was.Position.String(), d.Now.Epoch
		lines[i].Archived, lines[i].Dropped, lines[i].ArchivedAs = d.Archived, d.Dropped, d.ArchivedAs
	}
	return lines, nil
}

// resetLine is what was done to one source. Its names are those of the JSON form.
type resetLine struct {
	Source     string `json:"source"`
	Was        string `json:"was_settled_to"` // 0-0: it never was
	Epoch      int64  `json:"epoch"`
	Held       int64  `json:"in_redis"`
	Again      int64  `json:"counted_again"` // of these, if they were counted before
	Archived   int64  `json:"dead_letters"`
	Dropped    int64  `json:"dropped"` // of these: their entries are read again
	ArchivedAs string `json:"dead_letters_now"`
}

func (l resetLine) print(w io.Writer) error {
	_, err := fmt.Fprintf(w, `reset %s, which was processed up to %s
  in Redis, to be counted      %12s
  of these a second time       %12s
  dead letters archived        %12s, as %s
  of these dropped             %12s, because their entries are read again
`, l.Source, l.Was, grouped(l.Held), grouped(l.Again), grouped(l.Archived), l.ArchivedAs, grouped(l.Dropped))
	return err
}
