package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"aggregator/internal/admin"
	"aggregator/internal/aggregator"
	"aggregator/internal/cluster"
	"aggregator/internal/events"
	"aggregator/internal/postgres"
	"aggregator/internal/terminal"
)

// statusReport is what the command found. Its names are those of the JSON form; what could
// not be found out is null.
type statusReport struct {
	Redis    serverStatus            `json:"redis"`
	Postgres serverStatus            `json:"postgres"`
	Schema   schemaStatus            `json:"schema"`
	Sources  []sourceStatus          `json:"sources"`
	Dead     map[events.Reason]int64 `json:"dead"`    // dead letters that are not settled, by reason
	Members  []cluster.Instance      `json:"members"` // the instances that share sources
	Runs     []runLine               `json:"runs"`    // of each kind the one that runs, then the last one that ended

	Incidents []incidentLine  `json:"incidents"` // that are not accepted, of all sources in the database
	Elsewhere []elsewhereLine `json:"elsewhere"` // sources that the settings do not name

	group cluster.Group // that of the settings
	at    time.Time     // when it was made, by this machine's clock
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
	ahead   bool      // it is not held, because it ends later than any can
}

func newStatusReport(s, before admin.Survey, service map[string]admin.SourceState, group cluster.Group) *statusReport {
	r := &statusReport{
		Redis: newServerStatus(s.Redis), Postgres: newServerStatus(s.Postgres),
		Schema: schemaStatus{
			OK: s.Schema.Err == nil, Version: s.Schema.Version, Known: s.Schema.Known,
			schema: s.Schema.Schema,
		}, Dead: s.Dead,
		group: group, at: time.Now(),
	}
	if s.Schema.Err != nil {
		r.Schema.Error = s.Schema.Err.Error()
	}
	if s.Incidents != nil {
		r.Incidents = newIncidentLines(s.Incidents)
	}
	var sources []*events.Source
	for _, source := range s.Sources {
		sources = append(sources, source.Source)
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
	if r.Schema.OK {
		r.Members = inOrder(cluster.Instances(s.Members, s.Leases, s.At, group, events.Names(sources)))
	}
	return r
}

func newServerStatus(h admin.Health) serverStatus {
	if h.Err != nil {
		return serverStatus{Error: h.Err.Error()}
	}
	return serverStatus{OK: true, Version: h.Version, LatencySeconds: h.Latency.Seconds()}
}

// picture is how a report is shown.
type picture struct {
	terminal.Terminal
	wide   bool
	trends *trends // also as bars; nil: there are none yet
	cut    bool    // lines that are too long are cut, not broken: the next picture takes its place
}

func (r *statusReport) print(w io.Writer, p picture) error {
	var text strings.Builder
	line := func(format string, args ...any) {
		said := terminal.Clean(fmt.Sprintf(format, args...))
		if p.cut {
			said = terminal.Cut(said, p.Width)
		}
		fmt.Fprintln(&text, p.Wrap(said, "  "))
	}
	line("Redis       %s", r.Redis)
	line("PostgreSQL  %s", r.Postgres)
	if r.Schema.OK {
		line("schema      %s", r.Schema.schema)
	} else {
		line("schema      %s", r.Schema.Error)
	}
	line("")
	if err := r.sourceTable(p).Write(&text, p.Terminal); err != nil {
		return err
	}
	if len(r.Members) > 0 {
		line("")
		if err := writeMembers(&text, r.Members, r.group, p.Terminal, p.wide); err != nil {
			return err
		}
	}
	if len(r.Incidents)+len(r.Elsewhere) > 0 {
		line("")
	}
	for _, one := range r.Incidents {
		line("%s", one)
	}
	for _, one := range r.Elsewhere {
		line("elsewhere: %s", one)
	}
	line("")
	line("dead letters not settled: %s", r.deadText())
	for _, run := range r.Runs {
		line("last %s: %s", run.Kind, run)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// sourceTable has a row for each source.
func (r *statusReport) sourceTable(p picture) *terminal.Table {
	name, doing := 16, 20 // the least of their columns
	if p.trends != nil {
		name, doing = 10, 12 // to have room for trends
	}
	for _, s := range r.Sources { // but who holds a lease is more than a trend, or a checkpoint
		doing = max(doing, min(s.toHolder(), 40))
	}
	table := &terminal.Table{Wide: p.wide, Columns: []terminal.Column{
		{Name: "SOURCE", Least: name, Tail: true},
		{Name: "KEY", Drop: 2},
		{Name: "WAITING", Right: true},
		{Right: true, Drop: 5},
		{Name: "OLDEST", Right: true},
		{Name: "RATE", Right: true},
		{Right: true, Drop: 4},
		{Name: "CHECKPOINT", Drop: 1},
		{Name: "MOVED", Right: true, Drop: 3},
		{Name: "SERVICE", Least: doing, Color: stateColor},
	}}
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
		waited, rated := p.trends.of(s.Source, p.Width)
		table.Add(s.Source, s.Key, waiting, waited, oldest, rate, rated, position, age, s.doing(r.at))
	}
	return table
}

// stateColor is the color for what a service is doing.
func stateColor(doing string) terminal.Color {
	switch state, _, _ := strings.Cut(doing, " for "); state {
	case string(aggregator.Working), string(aggregator.Resting):
		return terminal.Green
	case string(aggregator.BackingOff):
		return terminal.Yellow
	case string(aggregator.Halted):
		return terminal.Red
	}
	return terminal.Plain
}

// doing is what the service is doing, as far as anything is known about it.
func (s sourceStatus) doing(now time.Time) string {
	switch {
	case s.Service != nil:
		text := fmt.Sprintf("%s for %s", s.Service.State, shortAge(now.Sub(s.Service.Since).Seconds()))
		if s.Service.Reason != "" {
			text += ": " + s.Service.Reason
		}
		return text
	case s.Lease != nil && s.Lease.Held:
		return "lease held by " + s.Lease.Holder
	case s.Lease != nil && s.Lease.ahead:
		return fmt.Sprintf("lease of %s until %s, by a clock that was fast: free", s.Lease.Holder,
			s.Lease.Expires.Format(time.RFC3339))
	case s.Lease != nil:
		return fmt.Sprintf("lease of %s expired at %s", s.Lease.Holder, s.Lease.Expires.Format(time.RFC3339))
	}
	return "-"
}

// toHolder is how wide the text of doing is up to the end of the holder's name, if it has one.
func (s sourceStatus) toHolder() int {
	switch {
	case s.Service != nil || s.Lease == nil:
		return 0
	case s.Lease.Held:
		return terminal.Width("lease held by " + s.Lease.Holder)
	}
	return terminal.Width("lease of " + s.Lease.Holder)
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
