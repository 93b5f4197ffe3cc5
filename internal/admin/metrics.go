package admin

import (
	"context"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"aggregator/internal/aggregator"
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
	)
	return registry
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("aggregator_"+name, help, labels, nil)
}

// No profile and no child is ever a label.
var (
	buildInfo    = describe("build_info", "What is running; always 1.", "version", "goversion")
	eventsTotal  = describe("events_total", "Events that this process settled, by what became of them; settled_before: by an earlier try or another instance.", "source", "result")
	chunksTotal  = describe("chunks_total", "Chunks that this process settled.", "source")
	conflicts    = describe("conflicts_total", "Profile transactions that were folded anew because another instance had moved the profile's mark.", "source")
	restarts     = describe("restarts_total", "Times that the loop began again from its checkpoint, by reason.", "source", "reason")
	state        = describe("source_state", "1 for the state that the loop is in.", "source", "state")
	leaseHeld    = describe("lease_held", "Whether this process holds the lease of the source.", "source")
	lastTurn     = describe("last_turn_timestamp_seconds", "When the loop was last seen alive.", "source")
	reloaded     = describe("config_last_reload_successful", "Whether the settings in force are the latest ones: 0 after SIGHUP with wrong ones.")
	dependencyUp = describe("dependency_up", "Whether the server answers.", "dependency")
	latency      = describe("dependency_latency_seconds", "Time of the latest round trip to the server.", "dependency")
	queueLag     = describe("queue_lag_events", "Entries that are not settled yet.", "source")
	deadLetters  = describe("dead_letters", "Dead letters that nobody has settled, of all sources in the database.", "reason")
	difference   = describe("ledger_difference_events", "Events counted twice, or, if negative, lost: by the marks and dead letters against the checkpoint.", "source")
	vanished     = describe("ledger_vanished_events", "Entries that were removed from Redis unread; negative if Redis has forgotten some.", "source")
)

var states = []aggregator.State{
	aggregator.Starting, aggregator.Working, aggregator.StandingBy, aggregator.BackingOff, aggregator.Halted, aggregator.Stopped,
}

// collector turns what the loop, the servers and the audit say into metrics.
type collector struct{ *Server }

// Describe is of prometheus.Collector.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		buildInfo, eventsTotal, chunksTotal, conflicts, restarts, state, leaseHeld, lastTurn,
		reloaded, dependencyUp, latency, queueLag, deadLetters, difference, vanished,
	} {
		ch <- d
	}
}

// Collect is of prometheus.Collector. What is not known at the moment is left out.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(buildInfo, 1, c.Version, runtime.Version())
	if c.Reloaded != nil {
		gauge(reloaded, number(c.Reloaded()))
	}

	for _, s := range c.Loop.Status() {
		name := s.Source.Name()
		counter(eventsTotal, s.Applied, name, "applied")
		counter(eventsTotal, s.Dead, name, "dead")
		counter(eventsTotal, s.Skipped, name, "settled_before")
		counter(chunksTotal, s.Chunks, name)
		counter(conflicts, s.Conflicts, name)
		for reason, n := range s.Restarts {
			counter(restarts, n, name, reason)
		}
		for _, one := range states {
			gauge(state, number(s.State == one), name, string(one))
		}
		gauge(leaseHeld, number(s.Leased), name)
		gauge(lastTurn, float64(s.LastTurn.UnixMilli())/1000, name)
	}

	survey := c.look(context.Background(), surveyAge)
	for name, health := range map[string]Health{"redis": survey.Redis, "postgres": survey.Postgres} {
		gauge(dependencyUp, number(health.Err == nil), name)
		if health.Err == nil {
			gauge(latency, health.Latency.Seconds(), name)
		}
	}
	for _, s := range survey.Sources {
		if s.Waiting != nil {
			gauge(queueLag, float64(*s.Waiting), s.Source.Name())
		}
	}
	for reason, n := range survey.Dead {
		gauge(deadLetters, float64(n), string(reason))
	}
	for name, b := range c.books.latest() {
		gauge(difference, float64(b.Difference()), name)
		gauge(vanished, float64(b.Vanished()), name)
	}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
