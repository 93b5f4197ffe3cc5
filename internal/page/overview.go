package page

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"aggregator/internal/admin"
	"aggregator/internal/aggregator"
	"aggregator/internal/cluster"
	"aggregator/internal/events"
	"aggregator/internal/runs"
	"aggregator/internal/terminal"
)

// lagging is after how long the oldest entry that waits makes a source one that lags, as the alert has it: not while
// the source rests until its schedule wants it.
const lagging = 5 * time.Minute

// trouble is something that a person should know of.
type trouble struct {
	Serious bool
	What    string
	To      string // the page that says more; empty: none
}

type overviewBody struct {
	Troubles      []trouble
	Waiting, Rate chart
	Sources       []sourceLine
	Dead          []deadCount
	DeadTotal     int64
	Runs          []runs.Run
	Stages        []stageLine
	Servers       []serverLine
	Unknown       bool // which runs there are is not known
	DeadUnknown   bool
}

type serverLine struct {
	Name, Version, Latency string
	OK                     bool
}

type deadCount struct {
	Reason events.Reason
	Count  int64
}

type stageLine struct {
	admin.StageTime
	Percent int
	Mean    string
}

// sourceLine is a source, as far as anything is known about it.
type sourceLine struct {
	Name     string
	Key      string
	State    string // of the loop here
	Bad      bool   // the state is one that a person should look at
	Since    time.Time
	Reason   string
	Holder   string // of the lease; empty: none
	Waiting  *int64
	Oldest   *time.Time
	Lags     bool
	Rate     *float64
	Position string // of the checkpoint
	Moved    *time.Time
}

func (p *Page) overview(v *view) error {
	survey := p.Survey(v.r.Context())
	b := overviewBody{
		Troubles: p.troubles(v, survey), Sources: p.lines(survey),
		Waiting: v.hourChart("waiting", "Entries waiting", p.trend.waiting(-1), counted),
		Rate:    v.hourChart("rate", "Entries processed a second", p.trend.rate(-1), perSecond),
		Stages:  stageLines(p.Stages()),
		Servers: []serverLine{server("Redis", survey.Redis), server("PostgreSQL", survey.Postgres)},
		Unknown: survey.Schema.Err != nil, DeadUnknown: survey.Dead == nil,
	}
	for _, reason := range slices.Sorted(maps.Keys(survey.Dead)) {
		b.Dead = append(b.Dead, deadCount{reason, survey.Dead[reason]})
		b.DeadTotal += survey.Dead[reason]
	}
	if !b.Unknown {
		var err error
		if b.Runs, err = runs.LatestByKind(v.r.Context(), p.Pool); err != nil {
			b.Unknown = true
		}
	}
	v.Refresh = true
	return v.show("overview", "overview", "Overview", b)
}

func counted(f float64) string   { return terminal.Grouped(int64(f)) }
func perSecond(f float64) string { return terminal.Grouped(int64(f+0.5)) + "/s" }

func server(name string, h admin.Health) serverLine {
	if h.Err != nil {
		return serverLine{Name: name}
	}
	return serverLine{name, h.Version, fmt.Sprintf("%.2f ms", 1000*h.Latency.Seconds()), true}
}

func stageLines(all []admin.StageTime) []stageLine {
	var total time.Duration
	for _, s := range all {
		total += s.Took
	}
	lines := make([]stageLine, len(all))
	for i, s := range all {
		lines[i] = stageLine{StageTime: s, Mean: "–"}
		if total > 0 {
			lines[i].Percent = int((100*s.Took + total/2) / total)
		}
		if s.Times > 0 {
			lines[i].Mean = fmt.Sprintf("%.2f ms", 1000*s.Took.Seconds()/float64(s.Times))
		}
	}
	return lines
}

// lines are the sources, with what this process and both servers say of each.
func (p *Page) lines(survey admin.Survey) []sourceLine {
	status := make(map[string]aggregator.Status)
	for _, s := range p.Status() {
		status[s.Source.Name()] = s
	}
	lines := make([]sourceLine, len(survey.Sources))
	for i, s := range survey.Sources {
		l := sourceLine{Name: s.Source.Name(), Key: s.Source.Key(), Waiting: s.Waiting, Oldest: s.Oldest}
		if here, found := status[l.Name]; found {
			l.State, l.Since, l.Reason = string(here.State), here.Since, here.Reason
			l.Bad = here.State == aggregator.BackingOff || here.State == aggregator.Halted || here.Hangs()
		}
		if s.Lease != nil && s.Lease.Held(survey.At) {
			l.Holder = s.Lease.Holder
		}
		if c := s.Checkpoint; c != nil {
			l.Position, l.Moved = c.Position.String(), &c.Updated
		}
		l.Lags = s.Oldest != nil && survey.At.Sub(*s.Oldest) > lagging && l.State != string(aggregator.Resting)
		if rates := p.trend.rate(i); len(rates) > 0 {
			if last := rates[len(rates)-1]; last.value >= 0 {
				l.Rate = &last.value
			}
		}
		lines[i] = l
	}
	return lines
}

// troubles are all reasons not to be content, the serious ones first.
func (p *Page) troubles(v *view, survey admin.Survey) (all []trouble) {
	serious := func(to, format string, args ...any) {
		all = append(all, trouble{true, fmt.Sprintf(format, args...), to})
	}
	for name, h := range map[string]admin.Health{"PostgreSQL": survey.Postgres, "Redis": survey.Redis} {
		if h.Err != nil {
			serious("", "%s cannot be reached: %s", name, reason(h.Err))
		}
	}
	slices.SortFunc(all, func(a, b trouble) int { return len(b.What) - len(a.What) })
	if survey.Postgres.Err == nil && survey.Schema.Err != nil {
		serious(link("doctor"), "The schema does not fit: %s", survey.Schema.Err)
	}
	if survey.Postgres.Err == nil && survey.Redis.Err == nil && survey.Schema.Err == nil && survey.Err != nil {
		serious(link("doctor"), "Not everything could be found out: %s", reason(survey.Err))
	}
	for _, i := range survey.OpenOf() {
		serious(link("source", "name", i.Source), "Source %s: %s: %s", i.Source, i.Kind, i)
	}
	complaints := p.Complaints()
	for _, source := range slices.Sorted(maps.Keys(complaints)) {
		serious(link("source", "name", source), "Source %s does not reconcile: %s", source, complaints[source])
	}
	for _, s := range p.Status() {
		to := link("source", "name", s.Source.Name())
		switch {
		case s.Hangs():
			serious(to, "Source %s: its loop has not turned for %s", s.Source.Name(), age(time.Since(s.LastTurn)))
		case s.State == aggregator.Halted, s.State == aggregator.BackingOff:
			serious(to, "Source %s is %s: %s", s.Source.Name(), s.State, s.Reason)
		}
	}
	lines := p.lines(survey)
	for _, l := range lines {
		working := l.State == string(aggregator.Working) || l.State == string(aggregator.Resting) || l.Bad
		if survey.Schema.Err == nil && l.Holder == "" && !working {
			serious(link("source", "name", l.Name), "Source %s: no instance works on it", l.Name)
		}
	}
	for _, l := range lines {
		if l.Lags {
			all = append(all, trouble{
				false, fmt.Sprintf("Source %s lags: its oldest entry has waited for %s", l.Name, age(survey.At.Sub(*l.Oldest))),
				link("source", "name", l.Name),
			})
		}
	}
	for _, job := range survey.Jobs {
		if job.Failed != nil && (job.Well == nil || job.Failed.After(*job.Well)) {
			all = append(all, trouble{
				false, fmt.Sprintf("The last run of %s failed, at %s", job.Kind, v.At(job.Failed).Text),
				link("runs", "kind", job.Kind),
			})
		}
	}
	return all
}

// reason is an error in words.
func reason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return err.Error()
}

type sourceBody struct {
	sourceLine
	Incidents     []string
	Complaint     string
	Waits, Worked chart
	Counts        runs.Counts
	Leased        bool
	Causes        []cause
	Expires       *time.Time
	Known         bool // there is a loop here
}

type cause struct {
	Name  string
	Times int64
}

// Line is for the template.
func (b sourceBody) Line() sourceLine { return b.sourceLine }

func (p *Page) source(v *view) error {
	name := v.r.FormValue("name")
	survey := p.Survey(v.r.Context())
	i := slices.Index(events.Names(p.Sources), name)
	if i < 0 {
		return &problem{
			http.StatusNotFound, fmt.Sprintf("The settings name no source %q.", name),
			"The overview lists those that there are.",
		}
	}
	b := sourceBody{
		sourceLine: p.lines(survey)[i], Complaint: p.Complaints()[name],
		Waits:  v.hourChart("waiting", "Entries waiting", p.trend.waiting(i), counted),
		Worked: v.hourChart("rate", "Entries processed a second", p.trend.rate(i), perSecond),
	}
	for _, incident := range survey.OpenOf() {
		if incident.Source == name {
			b.Incidents = append(b.Incidents, fmt.Sprintf("%s: %s", incident.Kind, incident))
		}
	}
	if l := survey.Sources[i].Lease; l != nil {
		b.Expires = &l.Expires
	}
	for _, s := range p.Status() {
		if s.Source.Name() != name {
			continue
		}
		b.Known, b.Counts, b.Leased = true, s.Counts, s.Leased
		for _, of := range slices.Sorted(maps.Keys(s.Causes)) {
			b.Causes = append(b.Causes, cause{of, s.Causes[of]})
		}
	}
	v.Refresh = true
	return v.show("source", "overview", "Source "+name, b)
}

func (p *Page) instances(v *view) error {
	survey := p.Survey(v.r.Context())
	if survey.Schema.Err != nil {
		if survey.Postgres.Err != nil {
			return survey.Schema.Err
		}
		return &problem{
			http.StatusServiceUnavailable, fmt.Sprintf("The schema does not fit: %s.", survey.Schema.Err),
			"aggregator doctor says what to do.",
		}
	}
	members, now, err := cluster.Members(v.r.Context(), p.Pool)
	if err != nil {
		return err
	}
	v.Refresh = true
	return v.show("instances", "instances", "Instances",
		cluster.Instances(members, survey.Leases, now, p.Group, events.Names(p.Sources)))
}
