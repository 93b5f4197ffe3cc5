package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"aggregator/internal/admin"
	"aggregator/internal/events"
	"aggregator/internal/postgres"
)

// statusReport is what the command found. Its names are those of the JSON form; what could
// not be found out is null.
type statusReport struct {
	Redis    serverStatus            `json:"redis"`
	Postgres serverStatus            `json:"postgres"`
	Schema   schemaStatus            `json:"schema"`
	Sources  []sourceStatus          `json:"sources"`
	Dead     map[events.Reason]int64 `json:"dead"` // letters that nobody has settled, by reason
}

type serverStatus struct {
	OK             bool    `json:"ok"`
	Error          string  `json:"error,omitempty"`
	Version        string  `json:"version,omitempty"`
	LatencySeconds float64 `json:"latency_seconds,omitempty"`
}

type schemaStatus struct {
	OK      bool   `json:"ok"`
	Error   string `json:"error,omitempty"`
	Version int64  `json:"version,omitempty"`
}

type sourceStatus struct {
	Source     string          `json:"source"`
	Key        string          `json:"key"` // what producers push to
	Waiting    *int64          `json:"waiting"`
	Checkpoint *checkpointLine `json:"checkpoint"`
	Lease      *leaseLine      `json:"lease"`
}

type checkpointLine struct {
	Position   string    `json:"position"`
	Updated    time.Time `json:"updated_at"`
	AgeSeconds float64   `json:"age_seconds"`
}

type leaseLine struct {
	Holder  string    `json:"holder"`
	Expires time.Time `json:"expires_at"`
}

func newStatus(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how far each source is, who works on it, and the health of both servers",
		Long: `Shows for each source up to where it is settled, since when, how many entries wait behind
that, and who holds its lease; the dead letters that nobody has settled; and whether both
servers answer, in what version and how fast. It reads only. When a server does not answer it
shows what the other one knows, and exits with 69.`,
		Example: `  aggregator status
  aggregator status -o json`,
	}
	out := addOutput(cmd)
	cmd.RunE = a.configured(func(cmd *cobra.Command, _ []string) error {
		report, err := a.status(cmd.Context())
		if report == nil {
			return err
		}
		var written error
		if out.json() {
			written = writeJSON(a.stdout, report)
		} else {
			written = report.print(a.stdout)
		}
		return errors.Join(err, written)
	})
	return cmd
}

// status asks both servers. With a report, the error is what is wrong with them.
func (a *app) status(ctx context.Context) (*statusReport, error) {
	client, err := newRedis(a.cfg, 2)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	sources, err := a.sources(client)
	if err != nil {
		return nil, err
	}
	pool, postgresErr := postgres.Open(ctx, a.postgresOptions(2))
	if postgresErr != nil && !errors.Is(postgresErr, postgres.ErrUnreachable) {
		return nil, postgresErr
	}
	if postgresErr == nil {
		defer pool.Close()
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	survey := admin.Look(ctx, pool, client, sources)
	if postgresErr != nil {
		survey.Postgres.Err, survey.Schema.Err = postgresErr, errors.New("not known")
	}
	redisErr := survey.Redis.Err
	if redisErr != nil {
		redisErr = client.failed(redisErr)
		survey.Redis.Err = redisErr
	}
	report := newStatusReport(survey, time.Now())
	if err := errors.Join(redisErr, survey.Postgres.Err); err != nil {
		return report, err
	}
	return report, errors.Join(survey.Schema.Err, survey.Err)
}

func newStatusReport(s admin.Survey, now time.Time) *statusReport {
	r := &statusReport{
		Redis: newServerStatus(s.Redis), Postgres: newServerStatus(s.Postgres),
		Schema: schemaStatus{OK: s.Schema.Err == nil, Version: s.Schema.Version}, Dead: s.Dead,
	}
	if s.Schema.Err != nil {
		r.Schema.Error = s.Schema.Err.Error()
	}
	for _, source := range s.Sources {
		line := sourceStatus{Source: source.Source.Name(), Key: source.Source.Key(), Waiting: source.Waiting}
		if c := source.Checkpoint; c != nil {
			line.Checkpoint = &checkpointLine{c.Position.String(), c.Updated.UTC(), now.Sub(c.Updated).Seconds()}
		}
		if l := source.Lease; l != nil {
			line.Lease = &leaseLine{l.Holder, l.Expires.UTC()}
		}
		r.Sources = append(r.Sources, line)
	}
	return r
}

func newServerStatus(h admin.Health) serverStatus {
	if h.Err != nil {
		return serverStatus{Error: h.Err.Error()}
	}
	return serverStatus{OK: true, Version: h.Version, LatencySeconds: h.Latency.Seconds()}
}

func (r *statusReport) print(w io.Writer) error {
	fmt.Fprintf(w, "Redis       %s\n", r.Redis)
	fmt.Fprintf(w, "PostgreSQL  %s\n", r.Postgres)
	if r.Schema.OK {
		fmt.Fprintf(w, "schema      version %d\n\n", r.Schema.Version)
	} else {
		fmt.Fprintf(w, "schema      %s\n\n", r.Schema.Error)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SOURCE\tKEY\tWAITING\tCHECKPOINT\tMOVED\tLEASE\tUNTIL")
	for _, s := range r.Sources {
		waiting, position, age, holder, until := "-", "-", "-", "-", "-"
		if s.Waiting != nil {
			waiting = grouped(*s.Waiting)
		}
		if c := s.Checkpoint; c != nil {
			position, age = c.Position, shortAge(c.AgeSeconds)+" ago"
		}
		if l := s.Lease; l != nil {
			holder, until = l.Holder, l.Expires.Format(time.RFC3339)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Source, s.Key, waiting, position, age, holder, until)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\ndead letters not settled: %s\n", r.deadText())
	return err
}

func (s serverStatus) String() string {
	if !s.OK {
		return s.Error
	}
	return fmt.Sprintf("%s, answers in %.2f ms", s.Version, 1000*s.LatencySeconds)
}

func (r *statusReport) deadText() string {
	if r.Dead == nil {
		return "not known"
	}
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(r.Dead)) {
		parts = append(parts, fmt.Sprintf("%s %s", grouped(r.Dead[reason]), reason))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func shortAge(seconds float64) string {
	age := time.Duration(max(seconds, 0) * float64(time.Second))
	if age < time.Minute {
		return age.Round(100 * time.Millisecond).String()
	}
	return age.Round(time.Second).String()
}
