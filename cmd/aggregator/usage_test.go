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
		"unknown form":       {"migrate status -o xml", "want text, wide or json"},
		"no number": {
			"drain --max-events abc",
			`--max-events = "abc": want a whole number; see aggregator drain --help`,
		},
		"no duration":       {"drain --max-duration soon", `--max-duration = "soon": want a duration, such as 90s or 5m`},
		"argument missing":  {"dead show stream", "want POSITION; see aggregator dead show --help"},
		"arguments missing": {"dead show", "want SOURCE POSITION"},
		"two for one":       {"history 1 2", `unexpected argument "2"`},
		"help of nothing":   {"help bogus", `unknown command "bogus"; see aggregator --help`},
		"help, misspelt":    {"help dead lst", `unknown command "lst", perhaps list`},
		"value apart":       {"status --watch 5s", `unexpected argument "5s"; its value belongs to the flag: --watch=5s`},
		"unknown kind": {
			"runs --kind foo",
			`--kind = "foo": want one of drain, service, purge, search_text, retry, drop, reset, accept, erase`,
		},
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
	require.Regexp(t, `(?s)\nRun:\n  drain .*\nLook:\n  doctor .*\nRepair and maintain:\n.*\nSet up:\n`, help.stdout)
	require.NotContains(t, help.stdout, "--chunk-max-events", "the settings have a page of their own")
	require.NotContains(t, program(t, nil, "drain", "--help").stdout, "--chunk-max-events")
	settings := program(t, nil, "help", "settings")
	settings.requireDone(t)
	require.Contains(t, settings.stdout, "--chunk-max-events number")
	require.Equal(t, program(t, nil, "dead", "list", "--help").stdout, program(t, nil, "help", "dead", "list").stdout)
}

// What the shell offers after TAB.
func TestCompletedValues(t *testing.T) {
	for line, want := range map[string]string{
		"drain --log-level ":                      "debug\ninfo\nwarn\nerror\n",
		"drain --history-preferred ":              "mean_of_positive\nabove_mean_of_nonnegative\n",
		"runs --kind ":                            "drain\nservice\n",
		"dead show ":                              ":36\n", // no files, and nothing is known
		"drain --max-events ":                     ":4\n",
		"drain --chunk-max-events ":               ":4\n",
		"drain --config ":                         ":0\n", // files
		"drain --redis-url-file ":                 ":0\n",
		"drain --http-pprof ":                     "true\nfalse\n",
		"drain --apply-profiles-per-transaction ": "auto\n",
		"dead list --reason ":                     "malformed\n",
		"status -o ":                              "text\nwide\njson\n",
		"help ":                                   "checkpoint\n",
	} {
		offered := program(t, nil, append([]string{"__complete"}, strings.Split(line, " ")...)...)
		require.Zero(t, offered.code)
		require.True(t, strings.HasPrefix(offered.stdout, want), "%s: %s", line, offered.stdout)
	}
}

// What only the database knows is asked for.
func TestCompletedFromTheDatabase(t *testing.T) {
	s := newPair(t)
	ids := s.push("junk", "2:1:LIKE")
	require.Zero(t, s.program("drain").code)
	for line, want := range map[string]string{
		"dead show ":                       "book-like-events\n:36\n",
		"dead drop book-like-events ":      ids[0] + "\tmalformed\n" + ids[1] + "\tunknown_profile\n:36\n",
		"dead retry book-like-events 1-0 ": ":36\n",
		"dead list --source ":              "book-like-events\n:36\n",
		"runs show ":                       "1\tdrain, done\n:36\n",
	} {
		offered := s.program(append([]string{"__complete"}, strings.Split(line, " ")...)...)
		require.Zero(t, offered.code)
		require.Equal(t, want, offered.stdout, line)
	}
}

func TestEveryCommandIsExplained(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Name() == "completion" || cmd.Name() == "help" { // cobra's own
			return
		}
		require.NotEmpty(t, cmd.Short, cmd.CommandPath())
		if cmd.IsAdditionalHelpTopicCommand() {
			return
		}
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
