package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

func TestWrongUsage(t *testing.T) {
	for name, tc := range map[string]struct{ args, want string }{
		"unknown command":    {"bogus", `unknown command "bogus"; see aggregator --help`},
		"misspelt command":   {"migrat", `unknown command "migrat", perhaps migrate`},
		"unknown flag":       {"--nope", "unknown flag: --nope"},
		"flag of a command":  {"version --nope", "unknown flag: --nope; see aggregator version --help"},
		"flag without value": {"config check --log-level", "flag needs an argument: --log-level"},
		"secret as a flag":   {"config check --redis-url=x", "unknown flag: --redis-url"},
		"argument too many":  {"migrate up now", `unexpected argument "now"; see aggregator migrate up --help`},
		"group alone":        {"migrate", "migrate: want one of down, status, up"},
		"group, misspelt":    {"config chek", `unknown command "chek", perhaps check`},
		"unknown shell":      {"completion cmd", `unknown command "cmd"`},
		"unknown form":       {"migrate status -o xml", "want text or json"},
	} {
		t.Run(name, func(t *testing.T) {
			program(t, nil, strings.Fields(tc.args)...).requireFailure(t, 64, tc.want)
		})
	}
}

func TestHelp(t *testing.T) {
	help := program(t, nil)
	help.requireDone(t)
	require.Equal(t, help.stdout, program(t, nil, "--help").stdout)
	require.Equal(t, help.stdout, program(t, nil, "help").stdout)
	require.Contains(t, help.stdout, "78  invalid configuration")
	require.Contains(t, help.stdout, "--chunk-max-events number")
}

func TestEveryCommandIsExplained(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Name() == "completion" || cmd.Name() == "help" { // cobra's own
			return
		}
		require.NotEmpty(t, cmd.Short, cmd.CommandPath())
		require.NotEmpty(t, cmd.Example, cmd.CommandPath())
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(&app{}))
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script := program(t, nil, "completion", shell)
		script.requireDone(t)
		require.Contains(t, script.stdout, "aggregator")
	}
}
