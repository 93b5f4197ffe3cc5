package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aggregator/internal/aggregator"
)

// Drained is how a drain ended.
type Drained struct {
	At       time.Time
	Took     time.Duration
	ExitCode int
	Stats    aggregator.Stats // zero if it did not get as far as reading
	Left     *int64           // entries; nil: not known
}

// WriteTextfile writes it for the textfile collector of Prometheus' node_exporter, whose
// folder the file must be in, with a name that ends in .prom. The file is there whole or not
// at all.
func (d Drained) WriteTextfile(name string) error {
	return prometheus.WriteToTextfile(name, d.registry())
}

var (
	drainAt   = describe("drain_timestamp_seconds", "When the last drain ended.")
	drainTook = describe("drain_duration_seconds", "How long the last drain took.")
	drainCode = describe("drain_exit_code",
		"Exit code of the last drain: 0 done, 75 stopped by a limit with events left, anything else is a failure.")
	drainEvents = describe("drain_events",
		"Events that the last drain processed, by outcome; settled_before: processed before by an earlier attempt or "+
			"another instance; retried: dead letters that were retried successfully.", "result")
	drainLeft = describe("drain_left_events",
		"Entries that the last drain left unprocessed; missing if that is not known.")
)

func (d Drained) registry() *prometheus.Registry {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(d)
	return registry
}

// Describe is of prometheus.Collector.
func (d Drained) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(d, ch) }

// Collect is of prometheus.Collector.
func (d Drained) Collect(ch chan<- prometheus.Metric) {
	to := sink(ch)
	to.gauge(drainAt, seconds(d.At))
	to.gauge(drainTook, d.Took.Seconds())
	to.gauge(drainCode, float64(d.ExitCode))
	to.gauge(drainEvents, float64(d.Stats.Applied), "applied")
	to.gauge(drainEvents, float64(d.Stats.Dead), "dead")
	to.gauge(drainEvents, float64(d.Stats.Skipped), "settled_before")
	to.gauge(drainEvents, float64(d.Stats.Retried), "retried")
	if d.Left != nil {
		to.gauge(drainLeft, float64(*d.Left))
	}
}
