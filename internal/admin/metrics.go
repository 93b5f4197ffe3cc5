package admin

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"aggregator/internal/aggregator"
	"aggregator/internal/cluster"
	"aggregator/internal/ledger"
	"aggregator/internal/postgres"
)

// surveyAge is how old the numbers from the servers may be in a scrape.
const surveyAge = 5 * time.Second

func (s *Server) metrics() http.Handler {
	registry := s.registry()
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		Registry:          registry,
		EnableOpenMetrics: true,
		CoalesceGather:    true,
		ErrorHandling:     promhttp.ContinueOnError,
	})
}

// registry has all that /metrics shows.
func (s *Server) registry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
		collector{s},
		pools{s.LoopPool, s.LoopRedis},
		s.Meter,
	)
	return registry
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("aggregator_"+name, help, labels, nil)
}

// No profile and no child is ever a label. docs/metrics.md is made from these. A label that
// is called job would be Prometheus' own, which is the scrape's.
var (
	buildInfo   = describe("build_info", "What is running; always 1.", "version", "goversion")
	eventsTotal = describe("events_total",
		"Events that this instance processed, by outcome; settled_before: processed before by an earlier attempt or "+
			"another instance.", "source", "result")
	chunksTotal = describe("chunks_total", "Chunks that this instance processed.", "source")
	profiles    = describe("profile_updates_total",
		"Updates of the scores of a child profile, one for each profile that a chunk changed. Events divided by updates is "+
			"how many events an update sums up.", "source")
	trimmed = describe("trimmed_events_total",
		"Entries that this instance removed from Redis after they were processed.", "source")
	inflight = describe("inflight_events",
		"Events of the chunk in flight that are committed and not yet covered by the checkpoint.", "source")
	conflicts = describe("conflicts_total",
		"Profile transactions that were computed again because another instance had moved the profile's mark.", "source")
	retries = describe("retries_total",
		"Attempts that failed, by reason; after each, the loop starts again from its checkpoint.", "source", "reason")
	revived = describe("dead_letters_retried_total",
		"Dead letters that this instance retried successfully because their profile and book exist now.")
	state       = describe("source_state", "1 for the state that the source is in, 0 for the others.", "source", "state")
	leaseHeld   = describe("lease_held", "Whether this instance holds the lease of the source.", "source")
	leaseMoves  = describe("lease_moves_total", "Sources that came to this instance or went, by reason.", "reason")
	heldSources = describe("held_sources", "Sources whose lease this instance holds.")
	targetOf    = describe("target_sources",
		"Sources that this instance is to have: all of them divided by the instances that share them.")
	membersSeen = describe("members", "Instances that share the sources, as this one sees it.")
	unowned     = describe("source_unowned_seconds",
		"For how long, at most, a source that this instance took had been without an owner: since it was given up, or "+
			"since its last owner, which is gone, renewed it.")
	lastTurn = describe("last_turn_timestamp_seconds", "When the loop of the source was last seen alive.", "source")
	reloaded = describe("config_last_reload_successful",
		"Whether the settings in force are the latest ones: 0 after a SIGHUP with invalid settings.")
	cacheUse = describe("cache_requests_total",
		"Look-ups of books and profiles: hit if remembered, miss if looked for in PostgreSQL.", "cache", "result")
	cacheEntries = describe("cache_entries", "Books and profiles that are remembered.", "cache")
	cacheMax     = describe("cache_max_entries", "Books and profiles that may be remembered at most.", "cache")
	dependencyUp = describe("dependency_up", "Whether the server answers.", "dependency")
	latency      = describe("dependency_latency_seconds", "Time of the latest round trip to the server.", "dependency")
	schemaAt     = describe("schema_version", "Newest migration that is applied to the database.")
	schemaKnown  = describe("schema_known_version",
		"Newest migration that this program knows. If the database has a later one, the program works with it or has halted.")
	queueLag = describe("queue_lag_events", "Entries that are not processed yet.", "source")
	queueAge = describe("queue_oldest_event_age_seconds",
		"How long the oldest entry that is not processed has waited in the stream; 0 if none waits, missing if all are in "+
			"the list.", "source")
	lastApply = describe("last_successful_apply_timestamp_seconds",
		"When the checkpoint was last moved, by any instance.", "source")
	jobDue = describe("job_due_timestamp_seconds",
		"When the job is due next by its schedule; while a job is overdue, since when.", "kind")
	jobEnded = describe("job_last_success_timestamp_seconds",
		"When a run of the job last ended without a failure, by schedule or by a command, on any host.", "kind")
	jobFailed   = describe("job_last_failure_timestamp_seconds", "When a run of the job last failed.", "kind")
	deadLetters = describe("dead_letters",
		"Dead letters that are neither applied nor dropped, of all sources in the database.", "reason")
	difference = describe("ledger_difference_events",
		"Events counted twice or, if negative, lost: the marks and dead letters compared with the checkpoint.", "source")
	openIncident = describe("open_incidents",
		"Whether an incident is open: that a server went back in time, or that events are missing. Only aggregator verify "+
			"--accept ends it.", "source", "kind")
	vanished = describe("ledger_vanished_events",
		"Entries that were removed from Redis unread; negative if Redis has forgotten some.", "source")
)

var states = []aggregator.State{
	aggregator.Starting, aggregator.Working, aggregator.StandingBy, aggregator.BackingOff, aggregator.Halted,
	aggregator.Stopped, aggregator.Resting,
}

// sink takes metrics.
type sink chan<- prometheus.Metric

func (s sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (s sink) counter(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

// collector turns what the loop, the servers and the audit say into metrics.
type collector struct{ *Server }

// Describe is of prometheus.Collector. What it collects depends on what there is.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		buildInfo, eventsTotal, chunksTotal, profiles, trimmed, inflight, conflicts, retries, revived, state, leaseHeld,
		lastTurn,
		leaseMoves, heldSources, targetOf, membersSeen, unowned,
		reloaded, cacheUse, cacheEntries, cacheMax,
		dependencyUp, latency, schemaAt, schemaKnown, queueLag, queueAge, lastApply, jobDue, jobEnded, jobFailed, deadLetters,
		openIncident,
		difference, vanished,
	} {
		ch <- d
	}
}

// Collect is of prometheus.Collector. What is not known at the moment is left out.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	to := sink(ch)
	to.gauge(buildInfo, 1, c.Version, runtime.Version())
	if c.Reloaded != nil {
		to.gauge(reloaded, number(c.Reloaded()))
	}
	for kind, at := range c.Due() {
		to.gauge(jobDue, seconds(at), kind)
	}
	c.ofLoop(to)
	c.ofLeases(to)
	c.ofServers(to)
	for name, b := range c.books.latest() {
		to.gauge(difference, float64(b.Difference()), name)
		to.gauge(vanished, float64(b.Vanished()), name)
	}
}

func (c collector) ofLoop(to sink) {
	for _, s := range c.Loop.Status() {
		name := s.Source.Name()
		to.counter(eventsTotal, float64(s.Applied), name, "applied")
		to.counter(eventsTotal, float64(s.Dead), name, "dead")
		to.counter(eventsTotal, float64(s.Skipped), name, "settled_before")
		to.counter(chunksTotal, float64(s.Chunks), name)
		to.counter(profiles, float64(s.Profiles), name)
		to.counter(trimmed, float64(s.Trimmed), name)
		to.gauge(inflight, float64(s.InFlight), name)
		to.counter(conflicts, float64(s.Conflicts), name)
		for reason, n := range s.Causes {
			to.counter(retries, float64(n), name, reason)
		}
		for _, one := range states {
			to.gauge(state, number(s.State == one), name, string(one))
		}
		to.gauge(leaseHeld, number(s.Leased), name)
		to.gauge(lastTurn, seconds(s.LastTurn), name)
	}
	to.counter(revived, float64(c.Loop.Stats().Retried))
	for _, use := range c.Loop.Caches() {
		to.counter(cacheUse, float64(use.Hits), use.Name, "hit")
		to.counter(cacheUse, float64(use.Misses), use.Name, "miss")
		to.gauge(cacheEntries, float64(use.Entries), use.Name)
		to.gauge(cacheMax, float64(use.Capacity), use.Name)
	}
}

// ofLeases is silent without leases.
func (c collector) ofLeases(to sink) {
	if c.Leases == nil {
		return
	}
	f, shares := c.Leases()
	if !shares {
		return
	}
	for reason, n := range f.Moves {
		to.counter(leaseMoves, float64(n), reason)
	}
	to.gauge(heldSources, float64(f.Held))
	to.gauge(targetOf, float64(f.Target))
	to.gauge(membersSeen, float64(f.Members))
	buckets := make(map[float64]uint64, len(f.Unowned))
	for i, n := range f.Unowned {
		buckets[cluster.UnownedBounds[i]] = n
	}
	to <- prometheus.MustNewConstHistogram(unowned, f.UnownedCount, f.UnownedSeconds, buckets)
}

func (c collector) ofServers(to sink) {
	survey := c.look(context.Background(), surveyAge)
	for name, health := range map[string]Health{"redis": survey.Redis, "postgres": survey.Postgres} {
		to.gauge(dependencyUp, number(health.Err == nil), name)
		if health.Err == nil {
			to.gauge(latency, health.Latency.Seconds(), name)
		}
	}
	if schema := survey.Schema; schema.Err == nil || errors.Is(schema.Err, postgres.ErrSchema) {
		to.gauge(schemaAt, float64(schema.Version))
		to.gauge(schemaKnown, float64(schema.Known))
	}
	for _, s := range survey.Sources {
		name := s.Source.Name()
		if s.Checkpoint != nil {
			to.gauge(lastApply, seconds(s.Checkpoint.Updated), name)
		}
		if s.Waiting != nil {
			to.gauge(queueLag, float64(*s.Waiting), name)
		}
		switch {
		case s.Oldest != nil:
			to.gauge(queueAge, max(0, survey.At.Sub(*s.Oldest).Seconds()), name)
		case s.Waiting != nil && *s.Waiting == 0:
			to.gauge(queueAge, 0, name)
		}
	}
	for _, job := range survey.Jobs {
		if job.Well != nil {
			to.gauge(jobEnded, seconds(*job.Well), job.Kind)
		}
		if job.Failed != nil {
			to.gauge(jobFailed, seconds(*job.Failed), job.Kind)
		}
	}
	c.ofIncidents(to, survey)
	for reason, n := range survey.Dead {
		to.gauge(deadLetters, float64(n), string(reason))
	}
}

// ofIncidents reports for each kind whether one is open, for each source of ours and for each other source
// that has one.
func (c collector) ofIncidents(to sink, survey Survey) {
	if survey.Incidents == nil {
		return
	}
	type key struct {
		source string
		kind   ledger.IncidentKind
	}
	open := make(map[key]bool)
	for _, s := range survey.Sources {
		for _, kind := range ledger.IncidentKinds {
			open[key{s.Source.Name(), kind}] = false
		}
	}
	for _, i := range survey.Incidents {
		open[key{i.Source, i.Kind}] = true
	}
	for k, is := range open {
		to.gauge(openIncident, number(is), k.source, string(k.kind))
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
