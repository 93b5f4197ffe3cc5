package aggregator

import (
	"time"

	"aggregator/internal/events"
)

// Chunk is what is known of a processed chunk, for figures.
type Chunk struct {
	Entries  int
	Profiles int
	Took     Stages
	At       time.Time // when its checkpoint was durable, by our clock
	Samples  []Sample
}

// Stages are how long each part of a chunk's way took.
type Stages struct {
	Read       time.Duration // from Redis, and decoding; 0 if events were waited for
	LookUp     time.Duration // marks, profiles and books
	Apply      time.Duration // the transactions of all profiles
	Checkpoint time.Duration // until all of it is durable
	Trim       time.Duration // 0 if it failed, or is left to a later chunk
}

// Sample is an event that stands for some others.
type Sample struct {
	Pushed time.Time // by the clock of Redis; of a list, when it was moved to the stream
	Events int
}

// mostSamples is how many a chunk has at most: how long its events waited needs no more.
const mostSamples = 64

// sample picks events spread evenly over those of a chunk, in the order of the stream.
func sample(all []events.Event) []Sample {
	n := min(len(all), mostSamples)
	picked := make([]Sample, n)
	for i := range picked {
		from, to := i*len(all)/n, (i+1)*len(all)/n
		picked[i] = Sample{all[(from+to)/2].Position.Time(), to - from}
	}
	return picked
}
