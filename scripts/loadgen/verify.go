package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"aggregator/scripts/loadgen/catalogue"
	"aggregator/scripts/loadgen/journal"
	"aggregator/scripts/loadgen/oracle"
	"aggregator/scripts/loadgen/workload"
)

// errDiffers is a verification that found something.
var errDiffers = errors.New("the database does not hold what was pushed")

// verifier has the flags of verify.
type verifier struct {
	*pusher
	settings  workload.Settings
	seeds     []string
	shape     catalogue.Shape
	anyZeros  bool
	skipRedis bool
	preferred oracle.Preferred
	weights   oracle.Weights
}

func verifyCommand(g *global) *cobra.Command {
	v := &verifier{
		pusher: newPusher(g), settings: workload.Defaults(), shape: catalogue.Default(),
		weights: oracle.Weights{Like: 2, Dislike: -2},
	}
	command := &cobra.Command{
		Use:   "verify",
		Short: "Compare the database with what was pushed",
		Long: `Compute, from the flags that the events were pushed with and from the catalogue, what
the database must hold, and compare every score, the latest history and favourites of
every profile, every dead letter and the number of events applied. Several pushes that
differ by their seed alone are verified together with --seed 1,2,3; any others, and
pushes that ran into errors, with the --acked-file that all of them appended to.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return v.verify(command.Context()) },
	}
	flags := command.Flags()
	keyFlags(flags, &v.settings)
	workloadFlags(flags, &v.settings)
	flags.StringSliceVar(&v.seeds, "seed", []string{"1"}, "seeds of the pushes")
	flags.StringVar(&v.settings.Replay, "replay", "", "the file of ratings that was replayed")
	flags.Uint64Var(&v.shape.Seed, "catalogue-seed", v.shape.Seed, "seed that the database was seeded with")
	missingFlag(flags, &v.shape)
	flags.BoolVar(&v.anyZeros, "any-zero-rows", false,
		"the database was not filled by seed: a score of 0 may be there or not where no event touched it")
	flags.Float64Var(&v.weights.Like, "like-weight", v.weights.Like, "what a like is worth")
	flags.Float64Var(&v.weights.Dislike, "dislike-weight", v.weights.Dislike, "what a dislike is worth")
	flags.StringVar((*string)(&v.preferred), "preferred", string(oracle.MeanOfPositive),
		"which scores make favorites, as history.preferred: mean_of_positive or above_mean_of_nonnegative")
	flags.BoolVar(&v.skipRedis, "skip-redis", false, "do not look for what is left in Redis (it may be retained)")
	v.paceFlags(flags)
	v.acceptPushFlags(flags)
	return command
}

// acceptPushFlags takes the flags of push that do not matter here, so that the same ones
// can be given to both. They are not shown.
func (v *verifier) acceptPushFlags(flags *pflag.FlagSet) {
	rest := pflag.NewFlagSet("", pflag.ContinueOnError)
	v.flags(rest)
	rest.VisitAll(func(f *pflag.Flag) {
		if f.Name == "acked-file" {
			f.Usage = "the file that the pushes appended to; takes their settings from there"
		} else if f.Name != "rate" {
			f.Hidden = true
		}
		flags.AddFlag(f)
	})
}

func (v *verifier) verify(ctx context.Context) error {
	if err := v.preferred.Check(); err != nil {
		return usageError{err}
	}
	runs, err := v.runs()
	if err != nil {
		return err
	}
	db, err := v.openPostgres(ctx)
	if err != nil {
		return err
	}
	defer db.Close(ctx)
	start := time.Now()
	options := oracle.Options{Weights: v.weights, Tables: v.tables, Preferred: v.preferred, Seeded: &v.shape}
	if v.anyZeros {
		options.Seeded = nil
	}
	report, err := oracle.Verify(ctx, db, runs, options)
	if err != nil {
		return err
	}
	if !v.skipRedis {
		if report.Leftovers, err = v.leftovers(ctx, runs); err != nil {
			return err
		}
	}
	v.log("verified in %s", time.Since(start).Round(time.Millisecond))
	if err := v.print(struct {
		OK bool `json:"ok"`
		oracle.Report
	}{report.OK(), report}, func(out io.Writer) { writeVerified(out, report) }); err != nil {
		return err
	}
	if !report.OK() {
		return errDiffers
	}
	return nil
}

// runs are the pushes to verify. Their settings are checked before any server is asked.
func (v *verifier) runs() ([]*journal.Run, error) {
	if v.ackedFile != "" {
		runs, err := journal.Read(v.ackedFile)
		if err == nil && len(runs) == 0 {
			err = fmt.Errorf("%s tells of no push", v.ackedFile)
		}
		return runs, err
	}
	if v.settings.Replay == "" {
		if err := v.size(&v.settings); err != nil {
			return nil, err
		}
	}
	var runs []*journal.Run
	for _, text := range v.seeds {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, usage("seed %q is not a number", text)
		}
		settings := v.settings
		settings.Seed = seed
		if _, err := workload.Open(settings); err != nil {
			return nil, usageError{err}
		}
		runs = append(runs, journal.Complete(settings))
	}
	return runs, nil
}

func (v *verifier) leftovers(ctx context.Context, runs []*journal.Run) ([]oracle.Leftover, error) {
	db, err := v.openRedis(ctx, 1, v.timeout)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return oracle.Leftovers(ctx, db, runs)
}

func writeVerified(out io.Writer, r oracle.Report) {
	fmt.Fprintf(out, "pushed            %d\n", r.Pushed)
	if r.PushedUnknown > 0 {
		fmt.Fprintf(out, "unknown outcome   %d\n", r.PushedUnknown)
	}
	fmt.Fprintf(out, "applied           %d of %d\n", r.Applied, r.ExpectedApplied)
	fmt.Fprintf(out, "dead              %d of %d\n", r.Dead, r.ExpectedDead)
	fmt.Fprintf(out, "lost              %d\n", r.Lost)
	fmt.Fprintf(out, "doubled           %d\n", r.Doubled)
	fmt.Fprintf(out, "profiles touched  %d\n", r.ProfilesTouched)
	fmt.Fprintf(out, "history rows      %d\n", r.HistoryRows)
	fmt.Fprintf(out, "rows compared     %d\n", r.RowsCompared)
	fmt.Fprintf(out, "mismatches        %d\n", r.Mismatches)
	for _, m := range r.First {
		who := ""
		if m.Profile != 0 {
			who = fmt.Sprintf("profile %d, ", m.Profile)
		}
		fmt.Fprintf(out, "  %s%s: expected %s, found %s\n", who, m.Table, m.Expected, m.Found)
	}
	for _, l := range r.Leftovers {
		fmt.Fprintf(out, "left in Redis     %d in %s\n", l.Entries, l.Key)
	}
}
