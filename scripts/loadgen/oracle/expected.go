package oracle

import (
	"fmt"

	"aggregator/scripts/loadgen/journal"
	"aggregator/scripts/loadgen/workload"
)

// Weights say what an action is worth.
type Weights struct{ Like, Dislike float64 }

// expected is what the database must hold after the events of certain outcome.
type expected struct {
	genres, topics, letters *grid
	applied                 []int64
	due                     map[letter]*due
	pushed, pushedUnknown   int64

	// uncertain are the events of unknown outcome that a profile may have been given.
	uncertain map[int][]uncertain
}

// uncertain is an event that Redis may have or not.
type uncertain struct {
	batch  batch
	index  int64
	book   book
	weight float64
}

// batch is a number of events that were sent together: those that Redis took of them
// come before those that it did not.
type batch struct {
	run    int
	number int32
}

func newExpected(c *catalogue) *expected {
	profiles := len(c.profiles.ids)
	return &expected{
		genres: newGrid(profiles, len(c.genres.ids)), topics: newGrid(profiles, len(c.topics.ids)),
		letters: newGrid(profiles, len(letters)), applied: make([]int64, profiles),
		due: map[letter]*due{}, uncertain: map[int][]uncertain{},
	}
}

// addRun adds all events of a push.
func (x *expected) addRun(number int, run *journal.Run, c *catalogue, w Weights) error {
	events, err := workload.Open(run.Settings)
	if err != nil {
		return err
	}
	streams := run.Settings.Streams()
	for i := range events.Len() {
		outcome, sent := run.Outcome(i)
		if outcome == journal.Refused {
			continue
		}
		e := events.At(i)
		certain := outcome == journal.Acknowledged
		if certain {
			x.pushed++
		} else {
			x.pushedUnknown++
		}
		if reason := c.refuses(e); reason != "" {
			x.addLetter(newLetter(streams[e.Partition], reason, e), e, certain)
			continue
		}
		profile, book, weight := c.profiles.place[e.Profile], c.books[e.Book], w.of(e)
		if !certain {
			u := uncertain{batch{number, sent}, i, book, weight}
			x.uncertain[profile] = append(x.uncertain[profile], u)
			continue
		}
		x.apply(profile, book, weight)
	}
	return nil
}

func (w Weights) of(e workload.Event) float64 {
	if e.Like {
		return w.Like
	}
	return w.Dislike
}

// refuses is the reason for which an event must become a dead letter; empty if it must
// be applied.
func (c *catalogue) refuses(e workload.Event) string {
	if e.Junk != "" {
		return e.Junk
	}
	if _, known := c.profiles.place[e.Profile]; !known {
		return workload.UnknownProfile
	}
	if _, known := c.books[e.Book]; !known {
		return workload.UnknownBook
	}
	return ""
}

// apply adds an event to the profile's scores.
func (x *expected) apply(profile int, b book, weight float64) {
	x.applied[profile]++
	if b.genre >= 0 {
		x.genres.add(profile, b.genre, weight)
	}
	for _, topic := range b.topics {
		x.topics.add(profile, topic, weight)
	}
	for _, letter := range b.letters {
		x.letters.add(profile, letter, weight)
	}
}

func (x *expected) addLetter(l letter, e workload.Event, certain bool) {
	d := x.due[l]
	if d == nil {
		_, payload := e.Payload()
		d = &due{sample: fmt.Sprintf("%.60q", payload[:min(len(payload), 60)])}
		x.due[l] = d
	}
	d.possible++
	if certain {
		d.certain++
	}
}
