package apply

import "aggregator/internal/events"

// Census counts the entries of a chunk, and the dead letters among them by reason.
type Census struct {
	Entries int
	Dead    map[events.Reason]int // nil: none
}

// DeadEntries is how many entries are dead letters.
func (c Census) DeadEntries() (n int) {
	for _, of := range c.Dead {
		n += of
	}
	return n
}

// AddDead counts n dead letters.
func (c *Census) AddDead(reason events.Reason, n int) {
	if c.Dead == nil {
		c.Dead = make(map[events.Reason]int)
	}
	if c.Dead[reason] += n; c.Dead[reason] == 0 {
		delete(c.Dead, reason)
	}
}

// Plus adds another census, multiplied by sign.
func (c *Census) Plus(other Census, sign int) {
	c.Entries += sign * other.Entries
	for reason, n := range other.Dead {
		c.AddDead(reason, sign*n)
	}
}

// Census counts what will be dead letters of the chunk, by all that is known before PostgreSQL is asked to
// write. The events that its marks have passed are not due; it counts none of them as a dead letter.
func (c *Chunk) Census() Census {
	n := Census{Entries: c.batch.Entries}
	for _, r := range c.batch.Rejected {
		n.AddDead(r.Reason, 1)
	}
	for _, seg := range c.due {
		_, known := c.known.profiles[seg.profileID]
		for _, e := range seg.events {
			switch _, listed := c.known.books[e.BookID]; {
			case e.Action == nil:
				n.AddDead(events.UnknownAction, 1)
			case !known:
				n.AddDead(events.UnknownProfile, 1)
			case !listed:
				n.AddDead(events.UnknownBook, 1)
			}
		}
	}
	return n
}
