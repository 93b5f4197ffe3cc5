package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aggregator/internal/deadletter"
	"aggregator/internal/events"
)

func newDead(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead",
		Short: "List, show, retry or drop dead letters",
		Long: `Dead letters are the entries that could not be applied, kept in PostgreSQL with the reason.
Those that are settled, applied or dropped, are kept without limit, or for dead.keep if that is
set; aggregator verify counts them either way.`,
		Example: `  aggregator dead list --reason unknown_action --newer-than 1h
  aggregator dead retry --reason unknown_action`,
	}
	cmd.AddCommand(newDeadList(a), newDeadShow(a), newDeadRetry(a), newDeadDrop(a))
	return cmd
}

// letterFlags are the flags that choose dead letters.
type letterFlags struct {
	reasons              []string
	olderThan, newerThan time.Duration
	profile              int64
	source               string
	limit                int
}

func (a *app) addLetterFlags(cmd *cobra.Command, limit int) *letterFlags {
	f := &letterFlags{}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.reasons, "reason", nil,
		"only those with one of these reasons: "+strings.Join(reasonNames(), ", "))
	flags.DurationVar(&f.olderThan, "older-than", 0, "only those that became dead letters longer ago, such as 1h30m")
	flags.DurationVar(&f.newerThan, "newer-than", 0, "only those that became dead letters since then, such as 10m")
	flags.Int64Var(&f.profile, "profile", 0, "only those of this child profile; entries that are not events have none")
	flags.StringVar(&f.source, "source", "", "only those of this stream, by the name of its key")
	flags.IntVar(&f.limit, "limit", limit, "at most this many; 0: all")
	_ = cmd.RegisterFlagCompletionFunc("source", a.completeFrom(offerSources))
	_ = cmd.RegisterFlagCompletionFunc("reason", cobra.FixedCompletions(reasonNames(), cobra.ShellCompDirectiveNoFileComp))
	return f
}

func reasonNames() []string {
	names := make([]string, len(events.Reasons))
	for i, r := range events.Reasons {
		names[i] = string(r)
	}
	return names
}

// chooses says whether a flag was given that leaves something out, other than by number.
func (f *letterFlags) chooses(cmd *cobra.Command) bool {
	return slices.ContainsFunc([]string{"reason", "older-than", "newer-than", "profile", "source"}, cmd.Flags().Changed)
}

// filter is what the flags choose of the dead letters that are not settled. Its error is one of usage.
func (f *letterFlags) filter(cmd *cobra.Command) (deadletter.Filter, error) {
	given := cmd.Flags().Changed
	filter := deadletter.Filter{OlderThan: f.olderThan, NewerThan: f.newerThan}
	for _, name := range f.reasons {
		if !slices.Contains(reasonNames(), name) {
			return filter, usageError("--reason = %q: want one of %s", name, strings.Join(reasonNames(), ", "))
		}
		filter.Reasons = append(filter.Reasons, events.Reason(name))
	}
	for name, age := range map[string]time.Duration{"older-than": f.olderThan, "newer-than": f.newerThan} {
		if given(name) && age <= 0 {
			return filter, usageError("--%s = %s: want more than 0", name, age)
		}
	}
	if given("older-than") && given("newer-than") && f.olderThan >= f.newerThan {
		return filter, usageError("nothing is older than %s and newer than %s", f.olderThan, f.newerThan)
	}
	if given("profile") {
		if f.profile < 0 {
			return filter, usageError("--profile = %d: want the id of a child profile", f.profile)
		}
		filter.ProfileID = &f.profile
	}
	if given("source") {
		filter.Sources = []string{f.source}
	}
	if f.limit < 0 {
		return filter, usageError("--limit = %d: want 0 or more", f.limit)
	}
	return filter, nil
}

// letterID reads SOURCE POSITION, as list prints them.
func letterID(args []string) (deadletter.ID, error) {
	position, err := events.ParsePosition(args[1])
	if err != nil {
		return deadletter.ID{},
			usageError("POSITION = %q: want the one that dead list shows, such as 1761985000123-0", args[1])
	}
	return deadletter.ID{Source: args[0], Position: position}, nil
}

// oneOrChosen is the rule of the arguments of retry and drop: SOURCE POSITION, or none.
func oneOrChosen(_ *cobra.Command, args []string) error {
	if len(args) != 0 && len(args) != 2 {
		return fmt.Errorf("want SOURCE POSITION, or flags that choose dead letters; got %d arguments", len(args))
	}
	return nil
}

// selected reads the arguments and flags of retry and drop. They have to say which dead letters: without any,
// it does not mean all.
func (f *letterFlags) selected(cmd *cobra.Command, args []string, all bool) (deadletter.Choice, error) {
	filter, err := f.filter(cmd)
	if err != nil {
		return deadletter.Choice{}, err
	}
	chosen := f.chooses(cmd) || all
	switch {
	case len(args) > 0 && (chosen || f.limit > 0):
		return deadletter.Choice{}, usageError("want either SOURCE POSITION or flags that choose dead letters, not both")
	case len(args) > 0:
		id, err := letterID(args)
		return deadletter.Choice{One: &id}, err
	case !chosen:
		return deadletter.Choice{}, usageError(
			"which dead letters? Want SOURCE POSITION, or --reason, --older-than, --newer-than, --profile, --source, or " +
				"--all-unsettled")
	}
	return deadletter.Choice{Filter: filter, Limit: f.limit}, nil
}
