package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"aggregator/internal/terminal"
)

// output is how a command shows its result: as text, as text with all that there is, or as one JSON
// document.
type output struct {
	form  string
	forms []string
}

// addOutput adds -o to a command.
func addOutput(cmd *cobra.Command) *output {
	return addForms(cmd, "how to show the result: text or json", "text", "json")
}

// addTableOutput adds -o to a command that shows a table.
func addTableOutput(cmd *cobra.Command) *output {
	return addForms(cmd, "how to show the result: text that fits the terminal; wide, with all columns in full; or json",
		"text", "wide", "json")
}

func addForms(cmd *cobra.Command, usage string, forms ...string) *output {
	o := &output{"text", forms}
	cmd.Flags().VarP(o, "output", "o", usage)
	_ = cmd.RegisterFlagCompletionFunc("output", // fails only for a flag that is not there
		cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp))
	return o
}

func (o *output) String() string { return o.form }
func (o *output) Type() string   { return strings.Join(o.forms, "|") }

func (o *output) Set(text string) error {
	if !slices.Contains(o.forms, text) {
		return fmt.Errorf("want %s", alternatives(o.forms))
	}
	o.form = text
	return nil
}

func (o *output) json() bool { return o.form == "json" }
func (o *output) wide() bool { return o.form == "wide" }

// alternatives is as in "text, wide or json".
func alternatives(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// terminal is where results go, as it is now.
func (a *app) terminal() terminal.Terminal { return terminal.Of(underlying(a.stdout)) }

// grouped writes 1234567 as 1,234,567.
func grouped(n int64) string { return terminal.Grouped(n) }

// letterCount is as in "1 dead letter", "2 dead letters".
func letterCount(n int64) string { return terminal.Count(n, "dead letter") }

// writeJSON writes one indented document.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
