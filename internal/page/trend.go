package page

import (
	"context"
	"sync"
	"time"

	"aggregator/internal/admin"
)

const (
	sampleEvery = 10 * time.Second
	remembered  = time.Hour
)

// trend is how far the sources were in the last hour, from this process alone. It is safe for concurrent use.
type trend struct {
	sources int

	mu      sync.Mutex
	samples []sample // oldest first
}

type sample struct {
	at      time.Time // with a monotonic reading
	sources []reading // in the order of the page's sources; nil: a server did not answer
}

// reading is how far a source was. What is not known is negative.
type reading struct {
	waiting int64
	entries int64 // processed ever
}

func (t *trend) init(sources int) { t.sources = sources }

func (t *trend) add(s sample) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := 0
	for old < len(t.samples) && s.at.Sub(t.samples[old].at) > remembered {
		old++
	}
	t.samples = append(t.samples[:copy(t.samples, t.samples[old:])], s)
}

// keepSampling takes a sample now and every ten seconds, until ctx ends.
func (p *Page) keepSampling(ctx context.Context) {
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		p.sample(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (p *Page) sample(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sampleEvery/2)
	defer cancel()
	found, _ := admin.Progress(ctx, p.Pool, p.Sources) // what is wrong is on the overview
	s := sample{at: time.Now()}
	if found != nil {
		s.sources = make([]reading, len(found))
		for i, one := range found {
			s.sources[i] = reading{-1, -1}
			if one.Waiting != nil {
				s.sources[i].waiting = *one.Waiting
			}
			if one.Checkpoint != nil {
				s.sources[i].entries = one.Checkpoint.Entries
			}
		}
	}
	p.trend.add(s)
}

// dot is a value at a moment; negative: it is not known.
type dot struct {
	at    time.Time
	value float64
}

// waiting is what waited, of one source, or of all if it is negative.
func (t *trend) waiting(source int) []dot {
	return t.each(source, func(_, now sample, i int) float64 { return float64(now.sources[i].waiting) })
}

// rate is how many entries were processed a second.
func (t *trend) rate(source int) []dot {
	return t.each(source, func(before, now sample, i int) float64 {
		if before.sources == nil || before.sources[i].entries < 0 || now.sources[i].entries < 0 {
			return -1
		}
		return max(0, float64(now.sources[i].entries-before.sources[i].entries)) / now.at.Sub(before.at).Seconds()
	})
}

func (t *trend) each(source int, value func(before, now sample, i int) float64) []dot {
	t.mu.Lock()
	defer t.mu.Unlock()
	dots := make([]dot, len(t.samples))
	var before sample
	for n, now := range t.samples {
		dots[n] = dot{now.at, -1}
		if now.sources != nil {
			for i := range now.sources {
				if source >= 0 && i != source {
					continue
				}
				if v := value(before, now, i); v >= 0 {
					dots[n].value = max(0, dots[n].value) + v
				}
			}
		}
		before = now
	}
	return dots
}
