package main

import (
	"encoding/json"
	"io"

	"github.com/spf13/cobra"
)

// output is how a command shows its result: text, or one JSON document.
type output string

// addOutput adds -o to a command.
func addOutput(cmd *cobra.Command) *output {
	o := output("text")
	cmd.Flags().VarP(&o, "output", "o", "how to show the result: text or json")
	_ = cmd.RegisterFlagCompletionFunc("output", // fails only for a flag that is not there
		cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return &o
}

func (o *output) String() string { return string(*o) }
func (o *output) Type() string   { return "text|json" }

func (o *output) Set(text string) error {
	if text != "text" && text != "json" {
		return usageError("want text or json")
	}
	*o = output(text)
	return nil
}

func (o *output) json() bool { return *o == "json" }

// writeJSON writes one indented document.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
