package admin

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"aggregator/internal/aggregator"
)

// Meter keeps the figures of processed chunks, of all sources together. It is a prometheus.Collector, and
// safe for concurrent use. Histograms have no native form beside the classic one: a Prometheus that takes
// native ones would then drop the buckets that dashboard and rules ask for.
type Meter struct {
	entries  prometheus.Histogram
	profiles prometheus.Histogram
	stages   *prometheus.HistogramVec
	delay    weighted
}

// NewMeter returns a meter that has seen nothing.
func NewMeter() *Meter {
	m := &Meter{
		entries: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "aggregator_chunk_size_events", Help: "Entries of a processed chunk.",
			Buckets: prometheus.ExponentialBuckets(1, 10, 7),
		}),
		profiles: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "aggregator_chunk_profiles", Help: "Child profiles that a processed chunk has events of.",
			Buckets: prometheus.ExponentialBuckets(1, 10, 7),
		}),
		stages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "aggregator_stage_duration_seconds",
			Help: "Time that a processed chunk took: to read it from Redis (unless the read waited for events), to look up " +
				"marks, profiles and books, to apply it, to move the checkpoint durably, to trim it (small chunks share a trim).",
			// From a single event to the largest chunk on a slow disk.
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"stage"}),
		delay: weighted{
			desc: describe("event_delay_seconds",
				"Time from the push of an event (of a list: from its move to the stream) by the clock of Redis until it was "+
					"durable in PostgreSQL by the clock of this host. Of a large chunk, 64 events represent all."),
			bounds: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 6 * 3600, 24 * 3600},
		},
	}
	for _, stage := range stagesOf(aggregator.Stages{}) {
		m.stages.WithLabelValues(stage.name) // so that it is there before the first chunk
	}
	m.delay.counts = make([]uint64, len(m.delay.bounds))
	return m
}

// Observe is for aggregator.Options.
func (m *Meter) Observe(c aggregator.Chunk) {
	m.entries.Observe(float64(c.Entries))
	m.profiles.Observe(float64(c.Profiles))
	for _, stage := range stagesOf(c.Took) {
		if stage.took > 0 { // else there was no such stage
			m.stages.WithLabelValues(stage.name).Observe(stage.took.Seconds())
		}
	}
	for _, s := range c.Samples {
		m.delay.observe(max(0, c.At.Sub(s.Pushed).Seconds()), uint64(s.Events))
	}
}

// StageTime is how long a stage of all chunks took so far.
type StageTime struct {
	Name  string
	Took  time.Duration
	Times int64 // how often it was measured
}

// Stages are the times of all stages, in the order in which a chunk passes through them.
func (m *Meter) Stages() []StageTime {
	var all []StageTime
	for _, stage := range stagesOf(aggregator.Stages{}) {
		var sum dto.Metric
		if err := m.stages.WithLabelValues(stage.name).(prometheus.Metric).Write(&sum); err != nil {
			continue // which a histogram does not do
		}
		took := time.Duration(sum.GetHistogram().GetSampleSum() * float64(time.Second))
		all = append(all, StageTime{stage.name, took, int64(sum.GetHistogram().GetSampleCount())})
	}
	return all
}

type stage struct {
	name string
	took time.Duration
}

func stagesOf(s aggregator.Stages) []stage {
	return []stage{
		{"read", s.Read},
		{"look_up", s.LookUp},
		{"apply", s.Apply},
		{"checkpoint", s.Checkpoint},
		{"trim", s.Trim},
	}
}

// Describe is of prometheus.Collector.
func (m *Meter) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect is of prometheus.Collector.
func (m *Meter) Collect(ch chan<- prometheus.Metric) {
	m.entries.Collect(ch)
	m.profiles.Collect(ch)
	m.stages.Collect(ch)
	ch <- m.delay.metric()
}

// weighted is a histogram of observations that count more than once.
type weighted struct {
	desc   *prometheus.Desc
	bounds []float64 // of the buckets, from above

	mu     sync.Mutex
	counts []uint64 // cumulative, as Prometheus has them
	count  uint64
	sum    float64
}

func (w *weighted) observe(value float64, times uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count += times
	w.sum += value * float64(times)
	for i, bound := range w.bounds {
		if value <= bound {
			w.counts[i] += times
		}
	}
}

func (w *weighted) metric() prometheus.Metric {
	w.mu.Lock()
	defer w.mu.Unlock()
	buckets := make(map[float64]uint64, len(w.bounds))
	for i, bound := range w.bounds {
		buckets[bound] = w.counts[i]
	}
	return prometheus.MustNewConstHistogram(w.desc, w.count, w.sum, buckets)
}
