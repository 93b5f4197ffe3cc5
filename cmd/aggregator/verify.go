package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"aggregator/internal/audit"
	"aggregator/internal/events"
	"aggregator/internal/ledger"
)

// verification is the outcome for one source. Its names are those of the JSON form.
type verification struct {
	Source     string `json:"source"`
	State      string `json:"state"` // balanced, not balanced, no checkpoint, or unknown: it could not be found out
	Reason     string `json:"reason,omitempty"`
	Settled    int64  `json:"settled"`
	Applied    int64  `json:"applied"`
	Dead       int64  `json:"dead"`
	InHand     int64  `json:"in_hand"`
	Difference int64  `json:"difference"`
	Added      int64  `json:"added"`
	Left       int64  `json:"left"`
	Passed     int64  `json:"passed"`
	Vanished   int64  `json:"vanished"`
}

func (v verification) ok() bool { return v.State == "balanced" || v.State == "no checkpoint" }

func newVerify(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Say whether the books balance",
		Long: `Says for each source whether every entry that Redis was ever given is applied, a dead letter,
or still there. It may be used at any time, also while the service runs: it holds the
checkpoint for two seconds at a time, and changes nothing. It needs the service's settings of
the source, and its rights in PostgreSQL: a lock needs the right to write.

Two accounts are compared. In PostgreSQL, events applied and dead letters against the
entries that the checkpoint has passed: more were counted twice, fewer were lost. In Redis,
entries ever added against those left and those passed: more were removed unread, fewer were
forgotten by Redis. Exits with 1 if an account is not even, or could not be drawn up.`,
		Example: `  aggregator verify
  aggregator verify -o json`,
	}
	out := addOutput(cmd)
	cmd.RunE = a.configured(func(cmd *cobra.Command, _ []string) error {
		to, err := a.connect(cmd.Context(), 1, 1)
		if err != nil {
			return err
		}
		defer to.close()
		var all []verification
		bad := 0
		for _, source := range to.sources {
			v, err := verify(cmd.Context(), to.pool, source)
			if err != nil {
				return err
			}
			if !v.ok() {
				bad++
			}
			all = append(all, v)
		}
		if out.json() {
			err = writeJSON(a.stdout, map[string]any{"balanced": bad == 0, "sources": all})
		} else {
			err = a.listVerifications(all)
		}
		if err == nil && bad > 0 {
			err = fmt.Errorf("the books of %d of %d sources do not balance", bad, len(all))
		}
		return err
	})
	return cmd
}

func verify(ctx context.Context, pool *pgxpool.Pool, source *events.Source) (verification, error) {
	b, err := audit.Take(ctx, pool, source)
	switch {
	case errors.Is(err, ledger.ErrNoCheckpoint):
		return verification{Source: source.Name(), State: "no checkpoint", Reason: "nothing has been drained yet: nothing to verify"}, nil
	case errors.Is(err, ledger.ErrNotInTime):
		return verification{Source: source.Name(), State: "unknown", Reason: err.Error()}, nil
	case err != nil:
		return verification{}, err
	}
	v := verification{
		Source: source.Name(), State: "balanced", Reason: b.Complaint(),
		Settled: b.Settled, Applied: b.Applied, Dead: b.Dead, InHand: b.InHand, Difference: b.Difference(),
		Added: b.Added, Left: b.Left, Passed: b.Passed, Vanished: b.Vanished(),
	}
	if !b.Even() {
		v.State = "not balanced"
	}
	return v, nil
}

// listVerifications writes one line a source.
func (a *app) listVerifications(all []verification) error {
	for _, v := range all {
		text := v.Reason
		if v.State == "balanced" {
			text = fmt.Sprintf("%s applied + %s dead letters = %s settled + %s in hand; %s added = %s read + %s left",
				grouped(v.Applied), grouped(v.Dead), grouped(v.Settled), grouped(v.InHand), grouped(v.Added), grouped(v.Passed), grouped(v.Left))
		}
		if _, err := fmt.Fprintf(a.stdout, "%s: %s: %s\n", v.Source, v.State, text); err != nil {
			return err
		}
	}
	return nil
}
