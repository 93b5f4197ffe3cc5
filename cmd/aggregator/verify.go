package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"aggregator/internal/aggregator"
	"aggregator/internal/audit"
	"aggregator/internal/events"
	"aggregator/internal/ledger"
	"aggregator/internal/runs"
	"aggregator/internal/service"
	"aggregator/internal/terminal"
)

// verification is the outcome for one source. Its names are those of the JSON form.
type verification struct {
	Source     string `json:"source"`
	State      string `json:"state"` // balanced, not balanced, no checkpoint, or unknown: it could not be found out
	Reason     string `json:"reason,omitempty"`
	Processed  int64  `json:"settled"`
	Applied    int64  `json:"applied"`
	Dead       int64  `json:"dead"`
	InFlight   int64  `json:"in_hand"`
	Difference int64  `json:"difference"`
	Added      int64  `json:"added"`
	Left       int64  `json:"left"`
	Read       int64  `json:"passed"`
	Vanished   int64  `json:"vanished"`

	Incidents []incidentLine `json:"incidents"` // that are not accepted
}

func (v verification) ok() bool { return v.State == "balanced" || v.State == "no checkpoint" }

func newVerify(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that every event is accounted for",
		Long: `Checks for each source that every entry that was ever added to Redis is applied, a dead letter,
or still there. It may be used at any time, also while the service runs: it holds the
checkpoint for two seconds at a time, and changes nothing without --accept. It needs the
service's settings of the source, and its rights in PostgreSQL: a lock needs the right to write.

In PostgreSQL it compares the events that are applied or dead letters with the entries that
the checkpoint has passed: if there are more, events were counted twice; if fewer, events were
lost. In Redis it compares the entries ever added with those read and those left: if more were
added, entries were removed unread; if fewer, Redis has forgotten entries. It exits with 1 if
there is a difference, if it could not compare, or while an incident is open: PostgreSQL or
Redis went back in time, or events are missing.

With --scores it also compares the scores of each profile with its latest row of history, if a
drain wrote that row: the eight scores, and the type and the favorites that follow from the
scores. It reads 500 profiles at a time, also while the service runs, shows the first that
differ, and exits with 1 if any do.

With --accept it shows the open incidents, ends them, and takes the differences over into the
checkpoint: from then on the source is reconciled. It applies and removes nothing, and is
recorded in the list of runs.`,
		Example: `  aggregator verify
  aggregator verify --scores
  aggregator verify --accept
  aggregator verify -o json`,
	}
	out := addOutput(cmd)
	var accept, withScores bool
	cmd.Flags().BoolVar(&accept, "accept", false,
		"end the open incidents, and take the differences over into the checkpoint")
	cmd.Flags().BoolVar(&withScores, "scores", false, "compare the scores of all profiles with the history, too")
	cmd.RunE = a.configured(func(cmd *cobra.Command, _ []string) error {
		if accept && withScores {
			return usageError("--accept and --scores: one at a time")
		}
		to, err := a.Connect(cmd.Context(), 2, 2)
		if err != nil {
			return err
		}
		defer to.Close()
		found, err := a.FindElsewhere(cmd.Context(), to)
		if err != nil {
			return err
		}
		sources := slices.Concat(to.Sources, service.Former(found))
		if accept {
			if err := a.accept(cmd.Context(), to.Pool, sources, out); err != nil || out.json() {
				return err
			}
		}
		var all []verification
		bad, open := 0, 0
		for _, source := range sources {
			v, err := verify(cmd.Context(), to.Pool, source)
			if err != nil {
				return err
			}
			if !v.ok() {
				bad++
			}
			open += len(v.Incidents)
			all = append(all, v)
		}
		document := map[string]any{"balanced": bad == 0, "sources": all}
		if !out.json() {
			if err := a.listVerifications(all); err != nil {
				return err
			}
		}
		var compared audit.ScoresReport
		if withScores {
			if compared, err = a.compareScores(cmd.Context(), to.Pool, out); err != nil {
				return err
			}
			document["scores"] = compared
		}
		if out.json() {
			err = writeJSON(a.stdout, document)
		} else if withScores {
			err = printScores(a.stdout, compared)
		}
		if err == nil && bad > 0 {
			err = fmt.Errorf("reconciliation failed for %d of %s", bad, terminal.Count(int64(len(all)), "source"))
		} else if err == nil && open > 0 {
			err = fmt.Errorf("open incidents: %d; verify --accept ends them", open)
		}
		if compared.Different > 0 {
			err = errors.Join(err, fmt.Errorf("the scores of %s of %s differ from their history",
				grouped(compared.Different), terminal.Count(compared.Compared, "profile")))
		}
		return err
	})
	return cmd
}

// kindAccept is the kind of runs that accept incidents.
const kindAccept = "accept"

// accept ends the open incidents of the sources, those that are found now among them, once it has shown them,
// and keeps a record of it.
func (a *app) accept(ctx context.Context, pool *pgxpool.Pool, sources []*events.Source, out *output) error {
	quiet := slog.New(slog.DiscardHandler) // they are shown below
	for _, source := range sources {
		_, err := aggregator.Reconcile(ctx, pool, source, quiet)
		if err != nil && !errors.Is(err, ledger.ErrNoCheckpoint) {
			return err
		}
	}
	open, err := service.OpenIncidents(ctx, pool, sources)
	if err != nil {
		return err
	}
	lines := newIncidentLines(open)
	document := map[string]any{"accepted": lines}
	if len(open) == 0 {
		if out.json() {
			return writeJSON(a.stdout, document)
		}
		_, err = fmt.Fprintln(a.stdout, "no incident is open")
		return err
	}
	var note []string
	for _, line := range lines {
		note = append(note, line.String())
		if !out.json() {
			if _, err := fmt.Fprintf(a.stdout, "accepting: %s\n", line); err != nil {
				return err
			}
		}
	}
	job := runs.Job{Kind: kindAccept, Note: func() string { return strings.Join(note, "; ") }}
	err = a.Recorder(pool).Record(ctx, job, func() (runs.Outcome, error) {
		for _, source := range sources {
			of := slices.DeleteFunc(slices.Clone(open), func(i ledger.Incident) bool {
				return i.Source != source.Name()
			})
			if len(of) == 0 {
				continue
			}
			if err := audit.Accept(ctx, pool, source, of, a.Name()); err != nil {
				return runs.Failed, err
			}
		}
		return runs.Done, nil
	})
	if err == nil && out.json() {
		err = writeJSON(a.stdout, document)
	}
	return err
}

func verify(ctx context.Context, pool *pgxpool.Pool, source *events.Source) (verification, error) {
	b, err := audit.Take(ctx, pool, source)
	switch {
	case errors.Is(err, ledger.ErrNoCheckpoint):
		open, err := service.OpenIncidents(ctx, pool, []*events.Source{source})
		return verification{
			Source: source.Name(), State: "no checkpoint", Reason: "nothing has been drained yet: nothing to verify",
			Incidents: newIncidentLines(open),
		}, err
	case errors.Is(err, ledger.ErrNotInTime):
		open, openErr := service.OpenIncidents(ctx, pool, []*events.Source{source})
		return verification{
			Source: source.Name(), State: "unknown", Reason: err.Error(), Incidents: newIncidentLines(open),
		}, openErr
	case err != nil:
		return verification{}, err
	}
	v := verification{
		Source: source.Name(), State: "balanced", Reason: b.Complaint(),
		Processed: b.Processed, Applied: b.Applied, Dead: b.Dead, InFlight: b.InFlight, Difference: b.Difference(),
		Added: b.Added, Left: b.Unprocessed, Read: b.Read, Vanished: b.Vanished(),
		Incidents: newIncidentLines(b.Open),
	}
	if !b.Even() {
		v.State = "not balanced"
	}
	return v, nil
}

// listVerifications writes one line for each source.
func (a *app) listVerifications(all []verification) error {
	to := a.terminal()
	for _, v := range all {
		text := v.Reason
		if v.State == "balanced" {
			text = fmt.Sprintf("%s applied + %s = %s processed + %s in flight; %s added = %s read + %s left",
				grouped(v.Applied), letterCount(v.Dead), grouped(v.Processed), grouped(v.InFlight),
				grouped(v.Added), grouped(v.Read),
				grouped(v.Left))
		}
		if _, err := fmt.Fprintln(a.stdout, to.Wrap(fmt.Sprintf("%s: %s: %s", v.Source, v.State, text), "  ")); err != nil {
			return err
		}
		for _, one := range v.Incidents {
			fmt.Fprintln(a.stdout, to.Wrap(fmt.Sprintf("  %s", one), "    "))
		}
	}
	return nil
}
