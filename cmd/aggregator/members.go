package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aggregator/internal/cluster"
	"aggregator/internal/events"
	"aggregator/internal/service"
	"aggregator/internal/terminal"
)

func newMembers(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "members",
		Short: "Show the instances that share the sources, and which ones each has",
		Long: `Lists the instances of run in the database, by name: the version of the program, since when it
runs, when it was last seen, whether it is draining (it gives up what it has), how many sources
it has and how many it is to have (its target), and which.

An instance is gone when it was not seen for as long as a lease lasts (lease.ttl); it is listed
for a day. An older program is no member, but may hold leases: of it only these are known.
Instances with another source (source.kind, source.key, source.partitions) share nothing with
those of the settings in force; they are listed, without a target.`,
		Example: `  aggregator members
  aggregator members -o json`,
	}
	out := addTableOutput(cmd)
	cmd.RunE = a.configured(func(cmd *cobra.Command, _ []string) error {
		pool, err := a.OpenPostgres(cmd.Context(), 1)
		if err != nil {
			return err
		}
		defer pool.Close()
		members, now, err := cluster.Members(cmd.Context(), pool)
		if err != nil {
			return err
		}
		leases, err := cluster.Leases(cmd.Context(), pool)
		if err != nil {
			return err
		}
		sources, err := a.Sources(&service.Redis{}) // for their names
		if err != nil {
			return err
		}
		lines := cluster.Instances(members, leases, now, a.Group(), events.Names(sources))
		if out.json() {
			return writeJSON(a.stdout, map[string]any{"members": lines})
		}
		if len(lines) == 0 {
			_, err := fmt.Fprintln(a.stdout, "no instance shares the sources")
			return err
		}
		return memberTable(lines, out.wide()).Write(a.stdout, a.terminal())
	})
	return cmd
}

// memberTable has a row for each instance.
func memberTable(lines []cluster.Instance, wide bool) *terminal.Table {
	table := &terminal.Table{Wide: wide, Columns: []terminal.Column{
		{Name: "INSTANCE", Least: 12},
		{Name: "STATE", Color: memberColor},
		{Name: "VERSION", Drop: 1},
		{Name: "STARTED", Drop: 3},
		{Name: "SEEN", Right: true, Drop: 2},
		{Name: "HAS", Right: true},
		{Name: "TARGET", Right: true},
		{Name: "SOURCES", Least: 7},
	}}
	for _, l := range lines {
		started, seen, target, sources := "-", "-", "-", few(l.Sources)
		if l.Started != nil {
			started, seen = l.Started.Format(time.RFC3339), shortAge(*l.Age)+" ago"
		}
		if l.Target != nil {
			target = fmt.Sprint(*l.Target)
		}
		if wide {
			sources = strings.Join(l.Sources, ", ")
		}
		table.Add(l.Instance, l.State, orDash(l.Version), started, seen, fmt.Sprint(len(l.Sources)), target, orDash(sources))
	}
	return table
}

func memberColor(state string) terminal.Color {
	switch state {
	case "living":
		return terminal.Green
	case "gone":
		return terminal.Red
	}
	return terminal.Yellow
}

// few are the first names of many.
func few(names []string) string {
	if len(names) > 6 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:5], ", "), len(names)-5)
	}
	return strings.Join(names, ", ")
}
