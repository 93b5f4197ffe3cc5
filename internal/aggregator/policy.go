package aggregator

import "time"

// apartFactor times maxWait is how far apart the hand-overs of two chunks may be because of waiting.
const apartFactor = 5

// batchPolicy decides how large a chunk becomes and when it is handed over to the applier,
// which applies one chunk at a time. It is a value: it has no clock and no timer, waits for
// nothing, and knows neither Redis nor PostgreSQL. The reader tells it what happens and asks
// what to do next.
//
// A chunk takes all that is there, up to maxEvents entries and its share of maxBytes. When
// it is full, or a drain finds nothing more, it is handed over as soon as the applier is
// free. One that could take more waits besides until maxWait after the applier became free,
// so that more events share its cost, but not beyond apartFactor*maxWait after the hand-over
// before. An event that comes to a source that was quiet for maxWait is thus handed over at
// once.
//
// What this does to a steady load: let r events a second come, and n of them take
// A = c0 + c1*n to apply; the capacity is 1/c1. Hand-overs are W = min(A + w, 5*w) apart,
// w being maxWait, or A where that is more, and a chunk has n = r*W events. A chunk that is
// later by x makes the next one take r*c1*x longer. Below the capacity that is less than x
// and has the same sign: the chunks approach A = (c0 + c1*r*w) / (1 - c1*r) from one side
// and never swing. The nearer the load is to the capacity the larger they are, and the
// smaller the share c0/W of what a chunk costs whatever its size. From 5*w on nothing waits
// for more while the applier is free, so that no capacity is lost. No event takes longer than W + A.
// At half of the capacity that is 4*c0 + 3*w, and at most 7.5*w + c0 where W = 5*w limits
// it: with 10 ms and a c0 of 6 ms 54 ms, and below 100 ms for every c0 below 25 ms.
type batchPolicy struct {
	maxEvents int
	maxBytes  int // of the chunk in flight and the one that is read; that one gets at least an eighth
	maxWait   time.Duration
	once      bool // a chunk is complete when nothing more is there: nothing is waited for
	limit     int  // entries that a chunk may have after a time-out; 0: maxEvents

	// The chunk that is being read.
	entries, bytes int
	full           bool // it can take no more
	complete       bool // it is to take no more: nothing is left, or no budget
	drained        bool // the last read, maybe of the chunk before, found less than it asked for

	// The applier.
	busy     bool
	inFlight int // bytes of the chunk that it has
	handedAt time.Time
	freeAt   time.Time
}

// decision is what to do with a chunk.
type decision int

const (
	readOn   decision = iota // there may be more at once
	handOver                 // it is due and the applier is free
	wait                     // for so long, or until the applier is free, and read again if there is room
	idle                     // it is empty: wait for an entry
	end                      // it is empty and remains so
)

// next is what to do now; the duration is that of wait, at most a second.
func (p *batchPolicy) next(now time.Time) (decision, time.Duration) {
	due := p.due()
	switch {
	case p.room() > 0 && !p.drained:
		return readOn, 0
	case p.entries == 0 && p.complete:
		return end, 0
	case p.entries == 0:
		return idle, 0
	case p.busy && p.room() > 0: // check now and then for what has come
		return wait, min(max(p.maxWait, 5*time.Millisecond), time.Second)
	case p.busy:
		return wait, time.Second
	case p.room() > 0 && due.After(now):
		return wait, min(due.Sub(now), time.Second)
	default:
		return handOver, 0
	}
}

// due is until when a chunk waits that could take more, once the applier is free.
func (p *batchPolicy) due() time.Time {
	due, latest := p.freeAt.Add(p.maxWait), p.handedAt.Add(apartFactor*p.maxWait)
	if latest.Before(due) {
		return latest
	}
	return due
}

// room is how many entries the chunk can take.
func (p *batchPolicy) room() int {
	if p.full || p.complete {
		return 0
	}
	return p.mostEntries() - p.entries
}

// mostEntries is how many entries a chunk may have.
func (p *batchPolicy) mostEntries() int {
	if p.limit > 0 {
		return min(p.limit, p.maxEvents)
	}
	return p.maxEvents
}

// mostBytes is how much memory the chunk may hold.
func (p *batchPolicy) mostBytes() int { return max(p.maxBytes/8, p.maxBytes-p.inFlight) }

// add says that of the entries that a read asked for so many came, of so many bytes.
func (p *batchPolicy) add(asked, came, bytes int) {
	p.entries += came
	p.bytes += bytes
	p.full = p.entries >= p.mostEntries() || p.bytes >= p.mostBytes()
	p.drained = came < asked && !p.once
	p.complete = came == 0 && p.once
}

// spent says that the budget is: nothing more may be read.
func (p *batchPolicy) spent() { p.complete = true }

// handed says that the applier has taken the chunk; another one begins.
func (p *batchPolicy) handed(now time.Time) {
	p.busy, p.handedAt, p.inFlight = true, now, p.bytes
	p.entries, p.bytes, p.full, p.complete = 0, 0, false, false
}

// freed says that the applier is done with its chunk since then, and how many entries the next
// ones may have; see limit.
func (p *batchPolicy) freed(at time.Time, limit int) {
	p.busy, p.freeAt, p.inFlight, p.limit = false, at, 0, limit
}
