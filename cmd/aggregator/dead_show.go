package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"aggregator/internal/deadletter"
	"aggregator/internal/terminal"
)

func newDeadShow(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show SOURCE POSITION",
		Short: "Show one dead letter",
		Long:  `Shows all that is known of a dead letter, named as dead list does. It changes nothing.`,
		Example: `  aggregator dead show book-like-events 1761985000123-0
  aggregator dead show book-like-events 1761985000123-0 -o json`,
		Args:              exactly("SOURCE", "POSITION"),
		ValidArgsFunction: a.completeFrom(offerLetters),
	}
	out := addOutput(cmd)
	cmd.RunE = a.configured(func(cmd *cobra.Command, args []string) error {
		id, err := letterID(args)
		if err != nil {
			return err
		}
		pool, err := a.OpenPostgres(cmd.Context(), 1)
		if err != nil {
			return err
		}
		defer pool.Close()
		letter, err := deadletter.Find(cmd.Context(), pool, id)
		if err != nil {
			return err
		}
		if out.json() {
			return writeJSON(a.stdout, newLetterDocument(letter))
		}
		return printLetter(a.stdout, a.terminal(), letter)
	})
	return cmd
}

func printLetter(out io.Writer, to terminal.Terminal, l deadletter.Letter) error {
	table := propertyTable()
	line := func(name, format string, args ...any) { table.Add(name, fmt.Sprintf(format, args...)) }
	line("source", "%s", l.Source)
	line("position", "%s, pushed at %s", l.Position, l.Position.Time().Format(time.RFC3339))
	line("reason", "%s: %s", l.Reason, orDash(l.Detail))
	if l.SQLState != nil {
		line("sqlstate", "%s", *l.SQLState)
	}
	line("profile", "%s", idOrDash(l.ProfileID))
	line("book", "%s", idOrDash(l.BookID))
	line("written at", "%s", l.Created.UTC().Format(time.RFC3339))
	line("retries", "%d", l.Attempts)
	if l.LastAttempt != nil {
		line("last retry", "%s", l.LastAttempt.UTC().Format(time.RFC3339))
	}
	if l.LastError != nil {
		line("last error", "%s", *l.LastError)
	}
	line("settled", "%s", settlement(l))
	const shown = 4096
	line("payload", "%s of %s: %s", l.Payload.Form, byteCount(len(l.Payload.Bytes)), beginning(l.Payload.Bytes, shown))
	return table.Write(out, to)
}

func settlement(l deadletter.Letter) string {
	if l.Settled == nil {
		return "no"
	}
	return fmt.Sprintf("%s at %s", l.SettledAs, l.Settled.UTC().Format(time.RFC3339))
}
