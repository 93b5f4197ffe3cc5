package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// TestCommandsDocument compares docs/commands.md with the commands: each has its row, with the
// arguments and flags that it has.
func TestCommandsDocument(t *testing.T) {
	document, err := os.ReadFile("../../docs/commands.md")
	require.NoError(t, err)
	documented := make(map[string][]string)
	row := regexp.MustCompile("(?m)^\\| `([a-z][^`]*)` \\|.*\\| (.*)\\|$")
	for _, found := range row.FindAllStringSubmatch(string(document), -1) {
		flags := regexp.MustCompile("`-[^`]*`").FindAllString(found[2], -1)
		slices.Sort(flags)
		documented[found[1]] = flags
	}

	commands := make(map[string][]string)
	root := newRoot(&app{})
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		alone := cmd.Annotations["works_alone"] != ""
		if cmd == root || cmd.HasSubCommands() && !alone || cmd.Parent().Name() == "completion" ||
			cmd.IsAdditionalHelpTopicCommand() {
			return
		}
		commands[usageOf(cmd)] = flagsOf(cmd)
	}
	walk(root)
	// Cobra has a command for each shell.
	bash, _, err := root.Find([]string{"completion", "bash"})
	require.NoError(t, err)
	commands["completion SHELL"] = flagsOf(bash)

	require.Equal(t, commands, documented)
}

func usageOf(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.Parent().CommandPath()+" "+cmd.Use, "aggregator ")
}

// flagsOf returns a command's own flags, sorted, as the document has them.
func flagsOf(cmd *cobra.Command) []string {
	var flags []string
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		switch f.Name {
		case "help":
		case "output":
			flags = append(flags, "`-o`")
		default:
			flags = append(flags, "`--"+f.Name+"`")
		}
	})
	slices.Sort(flags)
	return flags
}
