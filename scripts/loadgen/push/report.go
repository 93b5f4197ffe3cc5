package push

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Tally counts the events of a push so far.
type Tally struct {
	Acknowledged int64 `json:"acknowledged"`
	Unknown      int64 `json:"unknown_outcome"` // sent, never answered
	NotPushed    int64 `json:"not_pushed"`      // refused, or not sent: Redis does not have them
	Elapsed      time.Duration
}

// Report is how a push went. Rates are events a second, latencies milliseconds.
type Report struct {
	Events         int64   `json:"events"`
	Acknowledged   int64   `json:"acknowledged"`
	Unknown        int64   `json:"unknown_outcome"`
	NotPushed      int64   `json:"not_pushed"`
	Seconds        float64 `json:"seconds"`
	OfferedRate    float64 `json:"offered_per_second"` // 0: as fast as possible
	AchievedRate   float64 `json:"achieved_per_second"`
	Late           int64   `json:"late"`
	Latency        Latency `json:"latency_ms"`
	SurvivedOutage string  `json:"survived_outage,omitempty"` // its last error
}

// Latency is how long events took to be acknowledged, from their intended time.
type Latency struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P95  float64 `json:"p95"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

func sum(clients []*client, elapsed time.Duration) Tally {
	t := Tally{Elapsed: elapsed}
	for _, c := range clients {
		t.Acknowledged += c.acknowledged.Load()
		t.Unknown += c.unknown.Load()
		t.NotPushed += c.refused.Load()
	}
	return t
}

func newReport(s *schedule, clients []*client, o Options) Report {
	elapsed := time.Since(s.start)
	t := sum(clients, elapsed)
	r := Report{
		Events: s.count, Acknowledged: t.Acknowledged, Unknown: t.Unknown,
		NotPushed: t.NotPushed + s.count - s.claimed(),
		Seconds:   elapsed.Seconds(), OfferedRate: o.Rate,
		AchievedRate: float64(t.Acknowledged) / elapsed.Seconds(),
	}
	all := hdrhistogram.New(1, longest, 3)
	for _, c := range clients {
		all.Merge(c.latency)
		r.Late += c.late.Load()
		if c.lastError != nil {
			r.SurvivedOutage = c.lastError.Error()
		}
	}
	ms := func(quantile float64) float64 { return float64(all.ValueAtQuantile(quantile)) / 1000 }
	r.Latency = Latency{ms(50), ms(90), ms(95), ms(99), ms(99.9), float64(all.Max()) / 1000}
	return r
}
