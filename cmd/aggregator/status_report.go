package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

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
	Runs     []runLine               `json:"runs"` // of each kind the one that runs, then the last one that ended

	Incidents []incidentLine  `json:"incidents"` // that nobody has accepted, of all sources in the database
	Elsewhere []elsewhereLine `json:"elsewhere"` // sources that the settings do not name
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
	Known   int64  `json:"known,omitempty"` // the newest version that this program knows

	schema postgres.Schema
}

type sourceStatus struct {
	Source    string   `json:"source"`
	Key       string   `json:"key"` // what producers push to
	Waiting   *int64   `json:"waiting"`
	OldestAge *float64 `json:"oldest_age_seconds"` // of what waits in the stream; null also if nothing does
	Rate      *float64 `json:"settled_per_second"`

	Checkpoint *checkpointLine    `json:"checkpoint"`
	Lease      *leaseLine         `json:"lease"`
	Service    *admin.SourceState `json:"service"` // what it says itself; null if none answers here
}

type checkpointLine struct {
	Position   string    `json:"position"`
	Updated    time.Time `json:"updated_at"`
	AgeSeconds float64   `json:"age_seconds"`
}

type leaseLine struct {
	Holder  string    `json:"holder"`
	Expires time.Time `json:"expires_at"`
	Held    bool      `json:"held"` // its time is not over
	ahead   bool      // it is not held, for it ends later than any can
}

func newStatusReport(s, before admin.Survey, service map[string]admin.SourceState) *statusReport {
	r := &statusReport{
		Redis: newServerStatus(s.Redis), Postgres: newServerStatus(s.Postgres),
		Schema: schemaStatus{OK: s.Schema.Err == nil, Version: s.Schema.Version, Known: s.Schema.Known, schema: s.Schema.Schema}, Dead: s.Dead,
	}
	if s.Schema.Err != nil {
		r.Schema.Error = s.Schema.Err.Error()
	}
	if s.Incidents != nil {
		r.Incidents = newIncidentLines(s.Incidents)
	}
	for _, source := range s.Sources {
		name := source.Source.Name()
		line := sourceStatus{Source: name, Key: source.Source.Key(), Waiting: source.Waiting}
		if source.Oldest != nil {
			age := max(0, s.At.Sub(*source.Oldest).Seconds())
			line.OldestAge = &age
		}
		if rate, known := s.Rate(before, name); known {
			line.Rate = &rate
		}
		if c := source.Checkpoint; c != nil {
			line.Checkpoint = &checkpointLine{c.Position.String(), c.Updated.UTC(), s.At.Sub(c.Updated).Seconds()}
		}
		if l := source.Lease; l != nil {
			line.Lease = &leaseLine{l.Holder, l.Expires.UTC(), l.Held(s.At), !l.Held(s.At) && l.Expires.After(s.At)}
		}
		if state, found := service[name]; found {
			line.Service = &state
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
		fmt.Fprintf(w, "schema      %s\n\n", r.Schema.schema)
	} else {
		fmt.Fprintf(w, "schema      %s\n\n", r.Schema.Error)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SOURCE\tKEY\tWAITING\tOLDEST\tRATE\tCHECKPOINT\tMOVED\tSERVICE")
	for _, s := range r.Sources {
		waiting, oldest, rate, position, age := "-", "-", "-", "-", "-"
		if s.Waiting != nil {
			waiting = grouped(*s.Waiting)
		}
		if s.OldestAge != nil {
			oldest = shortAge(*s.OldestAge)
		}
		if s.Rate != nil {
			rate = grouped(int64(*s.Rate+0.5)) + "/s"
		}
		if c := s.Checkpoint; c != nil {
			position, age = c.Position, shortAge(c.AgeSeconds)+" ago"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Source, s.Key, waiting, oldest, rate, position, age, s.doing())
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(r.Incidents)+len(r.Elsewhere) > 0 {
		fmt.Fprintln(w)
	}
	for _, one := range r.Incidents {
		fmt.Fprintln(w, one)
	}
	for _, one := range r.Elsewhere {
		fmt.Fprintln(w, "elsewhere:", one)
	}
	last := ""
	for _, run := range r.Runs {
		last += fmt.Sprintf("last %s: %s\n", run.Kind, run)
	}
	_, err := fmt.Fprintf(w, "\ndead letters not settled: %s\n%s", r.deadText(), last)
	return err
}

// doing is what the service does, as far as anybody knows.
func (s sourceStatus) doing() string {
	switch {
	case s.Service != nil && s.Service.Reason != "":
		return fmt.Sprintf("%s since %s: %s", s.Service.State, s.Service.Since.Format(time.RFC3339), s.Service.Reason)
	case s.Service != nil:
		return fmt.Sprintf("%s since %s", s.Service.State, s.Service.Since.Format(time.RFC3339))
	case s.Lease != nil && s.Lease.Held:
		return "lease held by " + s.Lease.Holder
	case s.Lease != nil && s.Lease.ahead:
		return fmt.Sprintf("lease of %s until %s, by a clock that was fast: free", s.Lease.Holder, s.Lease.Expires.Format(time.RFC3339))
	case s.Lease != nil:
		return fmt.Sprintf("lease of %s expired at %s", s.Lease.Holder, s.Lease.Expires.Format(time.RFC3339))
	}
	return "-"
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
