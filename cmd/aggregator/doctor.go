package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"aggregator/internal/doctor"
	"aggregator/internal/postgres"
	"aggregator/internal/service"
	"aggregator/internal/terminal"
)

func newDoctor(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check both servers for misconfiguration and coming limits, and say what to do",
		Long: `Checks both servers with the settings and the rights of the service: versions and roles,
eviction and the append-only file, fsync, privileges, missing keys and indexes, poolers, the
number of connections, clocks that differ, and at which end of a list producers push, for
which it watches for a second. It also checks whether a server went back in time, and whether
entries wait in sources that the settings do not name. It tries what each event writes, in a
transaction that it rolls back, and changes nothing.

Each check is ok, a warning (it works, but not as well as it could, or not forever), a problem
(events may be lost, or the service does not work), or unknown (it could not be checked). The
last line counts them. It exits with 1 if there is a problem, and with 69 if a server is not
reachable.`,
		Example: `  aggregator doctor
  aggregator doctor -o json`,
	}
	out := addOutput(cmd)
	cmd.RunE = a.configured(func(cmd *cobra.Command, _ []string) error {
		findings, err := a.Examine(cmd.Context())
		findings = append(unreachable(err), findings...)
		if len(findings) == 0 {
			return err
		}
		summary := doctor.Summarize(findings)
		var written error
		if out.json() {
			written = writeJSON(a.stdout, map[string]any{
				"ok": err == nil && summary.Problems == 0, "findings": findings, "summary": summary,
			})
		} else {
			written = printFindings(a.stdout, a.terminal(), findings, summary)
		}
		if summary.Problems > 0 && err == nil {
			err = fmt.Errorf("%d of %d checks found a problem", summary.Problems, len(findings))
		}
		return errors.Join(err, written)
	})
	return cmd
}

// unreachable has a problem for each server that could not be looked at, of an error of Examine.
func unreachable(err error) (problems []doctor.Finding) {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return nil
	}
	for _, err := range joined.Unwrap() {
		of := doctor.Finding{Check: "connection", Verdict: doctor.Problem, Found: err.Error()}
		switch {
		case errors.Is(err, service.ErrRedisUnreachable):
			of.Server = "Redis"
			of.Advice = "start it, or see redis.url; its other checks were not made, nor those of both servers"
		case errors.Is(err, postgres.ErrUnreachable):
			of.Server = "PostgreSQL"
			of.Advice = "start it, or see postgres.url; its other checks were not made, nor those of both servers"
		default:
			continue
		}
		problems = append(problems, of)
	}
	return problems
}

// printFindings writes a line for each, one more for what to do, and the counts at the end. Texts that
// are too long for the terminal are broken at words: they say what to do, and none may be cut.
func printFindings(w io.Writer, to terminal.Terminal, findings []doctor.Finding, summary doctor.Summary) error {
	table := &terminal.Table{Bare: true, Columns: []terminal.Column{
		{Color: verdictColor}, {}, {Least: 12}, {Least: 30, Flow: true},
	}}
	for _, f := range findings {
		table.Add(string(f.Verdict), f.Server, f.Check, f.Found)
		if f.Advice != "" {
			table.Add("", "", "", "-> "+f.Advice)
		}
	}
	err := table.Write(w, to)
	_, last := fmt.Fprintln(w, summary)
	return errors.Join(err, last)
}

func verdictColor(verdict string) terminal.Color {
	switch doctor.Verdict(verdict) {
	case doctor.OK:
		return terminal.Green
	case doctor.Warning:
		return terminal.Yellow
	case doctor.Problem:
		return terminal.Red
	}
	return terminal.Dim
}
