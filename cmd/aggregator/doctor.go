package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"aggregator/internal/doctor"
	"aggregator/internal/events"
	"aggregator/internal/postgres"
	"aggregator/internal/terminal"
)

// adminConnections are those of the health checks, of the watch on the catalogue and of the leases.
const adminConnections = 2 + 1 + 1

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
		findings, err := a.examine(cmd.Context())
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

// examine looks at both servers. The error is that of those that could not be looked at.
func (a *app) examine(ctx context.Context) ([]doctor.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	found, redisErr := a.examineRedis(ctx)
	more, postgresErr := a.examinePostgres(ctx)
	found = append(found, more...)
	if err := errors.Join(redisErr, postgresErr); err != nil {
		return found, err
	}
	return append(found, a.examineBoth(ctx)...), nil
}

// examineBoth compares the two, if both can be reached. If not, the checks of each server have said why.
func (a *app) examineBoth(ctx context.Context) []doctor.Finding {
	to, err := a.Connect(ctx, 1, 2)
	if err != nil {
		return nil
	}
	defer to.Close()
	elsewhere, err := a.FindElsewhere(ctx, to)
	if err != nil {
		return nil
	}
	return append(doctor.Incidents(ctx, to.Pool, to.Sources, elsewhere),
		doctor.Instances(ctx, to.Pool, a.Group(), a.cfg.Lease.TTL)...)
}

func (a *app) examineRedis(ctx context.Context) ([]doctor.Finding, error) {
	server, err := a.NewRedis(2)
	if err != nil {
		return nil, err
	}
	defer server.Client.Close()
	defer server.CloseAt(ctx)()
	sources, err := a.Sources(server)
	if err != nil {
		return nil, err
	}
	options := events.Options{Kind: a.cfg.Source.Kind, PushSide: a.cfg.Source.PushSide}
	found, err := doctor.Redis(ctx, server.Client, options, sources)
	if err != nil {
		err = server.Failed(err)
	}
	return found, err
}

func (a *app) examinePostgres(ctx context.Context) ([]doctor.Finding, error) {
	pool, err := postgres.Open(ctx, a.PostgresOptions(2))
	if err != nil {
		if finding, is := doctor.Refused(err); is {
			return []doctor.Finding{finding}, nil
		}
		return nil, err
	}
	defer pool.Close()
	return doctor.Postgres(ctx, pool, a.EngineConnections()+adminConnections, a.cfg.Postgres.Tables,
		a.cfg.Journal.Keep > 0)
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
