// Package latency measures how long events take from the moment at which they are due to
// be pushed until their commit is seen.
//
// An event is due at a time that depends on its number and the rate alone, whether what
// measures, Redis or the service keep up or not: a stall is seen by all events that it
// delays (an open loop, without coordinated omission). An event is committed when the
// checkpoint has passed it: then its profile's scores and history are in PostgreSQL, and
// on disk. PostgreSQL tells of each step of the checkpoint when it has committed it.
package latency

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"aggregator/scripts/bench/results"
	"aggregator/scripts/loadgen/push"
)

// Load are events pushed in order at a steady rate.
type Load struct {
	Start time.Time // when the first is due
	Rate  float64   // events a second
	Count int64
}

// Sighting is how many of the events were seen to be committed at a time.
type Sighting struct {
	At        time.Time
	Committed int64
}

// Of finds the latencies of a load from sightings in the order of time, of which the last
// has all events.
func Of(load Load, sightings []Sighting) results.Offer {
	all := newHistogram()
	var thirds [3]*hdrhistogram.Histogram
	for i := range thirds {
		thirds[i] = newHistogram()
	}
	event := int64(0)
	for _, seen := range sightings {
		for ; event < min(seen.Committed, load.Count); event++ {
			took := micros(seen.At.Sub(push.Due(load.Start, load.Rate, event)))
			_ = all.RecordValue(took) // in range by construction
			_ = thirds[event*3/load.Count].RecordValue(took)
		}
	}
	o := results.Offer{
		Rate: load.Rate, Events: event,
		P50: ms(all, 50), P90: ms(all, 90), P99: ms(all, 99), P999: ms(all, 99.9), Max: ms(all, 100),
		Growth: ms(thirds[2], 50) / ms(thirds[1], 50),
	}
	o.Sustained = o.P99 < 1000 && (o.Growth < 1.5 || ms(thirds[2], 50) < 100)
	return o
}

// Latencies from a microsecond to an hour, to three digits.
const longest = int64(time.Hour / time.Microsecond)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, longest, 3) }

func micros(d time.Duration) int64 { return min(max(d.Microseconds(), 1), longest) }

func ms(h *hdrhistogram.Histogram, quantile float64) float64 {
	return float64(h.ValueAtQuantile(quantile)) / 1000
}
