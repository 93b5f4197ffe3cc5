package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
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
it has and how many it is to have (its target), and which: only their partitions if all have
the same key.

An instance is gone when it was not seen for as long as a lease lasts (lease.ttl); it is listed
for a day. An older program is no member, but may hold leases: of it only these are known.
Instances with another source (source.kind, source.key, source.partitions) than the settings
in force do not count in the shares; they are listed, without a target, and named below.`,
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
		lines := inOrder(cluster.Instances(members, leases, now, a.Group(), events.Names(sources)))
		if out.json() {
			return writeJSON(a.stdout, map[string]any{"members": lines})
		}
		if len(lines) == 0 {
			_, err := fmt.Fprintln(a.stdout, "no instance shares the sources")
			return err
		}
		return writeMembers(a.stdout, lines, a.Group(), a.terminal(), out.wide())
	})
	return cmd
}

// inOrder sorts the sources of each instance: {2} before {10}.
func inOrder(lines []cluster.Instance) []cluster.Instance {
	for _, l := range lines {
		slices.SortFunc(l.Sources, func(a, b string) int {
			keyA, partA := partition(a)
			keyB, partB := partition(b)
			return cmp.Or(strings.Compare(keyA, keyB), cmp.Compare(partA, partB))
		})
	}
	return lines
}

// partition splits the name of a source, as k:{2} or k:{2}:stream, into its partition and the rest; -1: it has none.
func partition(source string) (rest string, part int) {
	if at := strings.LastIndex(source, ":{"); at >= 0 {
		if number, after, found := strings.Cut(source[at+2:], "}"); found {
			if part, err := strconv.Atoi(number); err == nil {
				return source[:at] + after, part
			}
		}
	}
	return source, -1
}

// oneKey says whether all that the instances have are partitions of the same key.
func oneKey(lines []cluster.Instance) bool {
	var first string
	for _, l := range lines {
		for _, source := range l.Sources {
			key, part := partition(source)
			if part < 0 || first != "" && key != first {
				return false
			}
			first = key
		}
	}
	return true
}

// writeMembers writes a row for each instance, and below them why some have no target.
func writeMembers(w io.Writer, lines []cluster.Instance, group cluster.Group, to terminal.Terminal, wide bool) error {
	if err := memberTable(lines, wide).Write(w, to); err != nil {
		return err
	}
	of := make(map[cluster.Group][]string)
	var others []cluster.Group
	for _, l := range lines {
		other := cluster.Group{Kind: l.Kind, Key: l.Key, Partitions: l.Parts}
		if l.Target != nil || l.State == "gone" || other == group {
			continue
		}
		if of[other] == nil {
			others = append(others, other)
		}
		of[other] = append(of[other], l.Instance)
	}
	for _, other := range others {
		said := terminal.Clean(fmt.Sprintf("no target for %s: the source there is %s, here it is %s",
			strings.Join(of[other], ", "), other, group))
		if _, err := fmt.Fprintln(w, to.Wrap(said, "  ")); err != nil {
			return err
		}
	}
	return nil
}

// memberTable has a row for each instance.
func memberTable(lines []cluster.Instance, wide bool) *terminal.Table {
	sources, longest := make([]string, len(lines)), 0
	short := !wide && oneKey(lines)
	for i, l := range lines {
		sources[i] = orDash(sourcesText(l.Sources, short, wide))
		longest = max(longest, terminal.Width(sources[i]))
	}
	table := &terminal.Table{Wide: wide, Columns: []terminal.Column{
		{Name: "INSTANCE", Least: 16, Tail: true}, // names of instances differ at their end
		{Name: "STATE", Color: memberColor},
		{Name: "VERSION", Drop: 2},
		{Name: "STARTED", Drop: 1},
		{Name: "SEEN", Right: true, Drop: 3},
		{Name: "HAS", Right: true},
		{Name: "TARGET", Right: true},
		{Name: "SOURCES", Least: min(longest, 28), Flow: short},
	}}
	for i, l := range lines {
		started, seen, target := "-", "-", "-"
		if l.Started != nil {
			started, seen = l.Started.Format(time.RFC3339), shortAge(*l.Age)+" ago"
		}
		if l.Target != nil {
			target = fmt.Sprint(*l.Target)
		}
		table.Add(l.Instance, l.State, orDash(l.Version), started, seen, fmt.Sprint(len(l.Sources)), target, sources[i])
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

// sourcesText are the names of sources, or, if short, their partitions. Unless all are wanted, the first of many.
func sourcesText(names []string, short, all bool) string {
	between, most := ", ", 6
	if short {
		between, most = " ", 32
		names = slices.Clone(names)
		for i, name := range names {
			_, part := partition(name)
			names[i] = fmt.Sprintf("{%d}", part)
		}
	}
	if len(names) > most && !all {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most-1], between), len(names)-most+1)
	}
	return strings.Join(names, between)
}
