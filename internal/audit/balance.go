package audit

import (
	"fmt"
	"slices"
	"strings"

	"aggregator/internal/events"
	"aggregator/internal/ledger"
)

// Balance holds the accounts of a source at one moment, in events or entries.
type Balance struct {
	// What PostgreSQL says.
	Processed int64 // entries that the checkpoint has passed since we began
	Applied   int64 // events applied, by the marks
	Dead      int64 // dead letters, settled or not
	InFlight  int64 // events that a mark has passed and the checkpoint not yet

	// What Redis says, and what PostgreSQL makes of it.
	Added       int64 // entries that were ever added
	Unprocessed int64 // of them, those after the checkpoint that are there
	Read        int64 // of them, those that the checkpoint has passed, with those before we began

	// What is known of why the counts may not agree.
	Checkpoint ledger.Checkpoint
	SetBack    bool              // PostgreSQL was set back, and no person has accepted it
	Trimmed    int64             // at most so many of those that vanished were processed, and trimmed, before that
	MarkedPast *int64            // of the trimmed, those applied by marks that are after the checkpoint; nil: not known
	Open       []ledger.Incident // of the source, oldest first

	bookmark events.Bookmark // if it was found after the checkpoint
}

// explain takes over what is known of the source.
func (b *Balance) explain(known []ledger.Incident) {
	b.SetBack = !b.bookmark.Position.IsZero()
	b.Trimmed = max(0, b.bookmark.Entries-b.Read)
	for _, i := range known {
		setBack := i.Kind == ledger.PostgresSetBack
		if setBack && i.Epoch == b.Checkpoint.Epoch && !b.bookmark.Position.After(i.To) {
			b.SetBack, b.Trimmed = false, 0 // it is recorded
		}
		if i.Accepted == nil {
			b.Open = append(b.Open, i)
		}
	}
	for _, i := range b.Open {
		if i.Kind == ledger.PostgresSetBack && i.ByPosition() {
			b.SetBack, b.Trimmed, b.MarkedPast = true, b.Trimmed+i.Gone(), i.MarkedPast
		}
	}
}

// Difference is how many events too many were applied or are dead letters, or, if it is
// negative, how many are neither.
func (b Balance) Difference() int64 { return b.Applied + b.Dead - b.Processed - b.InFlight }

// Vanished is how many entries were removed before they were read. It is negative if the stream has a smaller
// count than it had: it was recreated, or Redis was rolled back.
func (b Balance) Vanished() int64 { return b.Added - b.Unprocessed - b.Read }

func (b Balance) redisWasSetBack() bool {
	return slices.ContainsFunc(b.Open, func(i ledger.Incident) bool {
		return i.Kind == ledger.RedisSetBack || i.Kind == ledger.SourceMissing
	})
}

// trimmed are the entries that vanished because PostgreSQL was set back.
func (b Balance) trimmed() int64 {
	if !b.SetBack {
		return 0
	}
	return max(0, min(b.Vanished(), b.Trimmed))
}

// marked are the events that were applied, by marks that are after the checkpoint, and whose entries are
// trimmed: a restored older state of PostgreSQL may have some.
func (b Balance) marked() int64 {
	d := max(0, b.Difference())
	switch {
	case !b.SetBack:
		return 0
	case b.MarkedPast != nil:
		return min(d, *b.MarkedPast)
	}
	return min(d, b.trimmed())
}

// Unrecorded are the incidents that the balance shows and that no open incident explains.
func (b Balance) Unrecorded() (all []ledger.Incident) {
	at := b.Checkpoint
	found := func(kind ledger.IncidentKind, entries int64) {
		for _, i := range b.Open {
			if i.Kind == kind && (i.Entries == entries || kind == ledger.EntriesRemoved && i.Entries > entries) {
				return
			}
		}
		all = append(all, ledger.Incident{
			Source: at.Source, Kind: kind, Epoch: at.Epoch, From: at.Position, To: at.Position, Entries: entries,
		})
	}
	if d := b.Difference() - b.marked(); d != 0 {
		found(ledger.CountMismatch, -d)
	}
	switch v := b.Vanished() - b.trimmed(); {
	case b.redisWasSetBack():
	case v > 0:
		found(ledger.EntriesRemoved, v)
	case v < 0:
		found(ledger.RedisSetBack, -v)
	}
	return all
}

// Even says whether the counts agree.
func (b Balance) Even() bool { return b.Difference() == 0 && b.Vanished() == 0 }

// Complaint says in one line what does not fit; it is empty if the counts agree.
func (b Balance) Complaint() string {
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if n := b.trimmed(); n > 0 {
		say("%d processed and trimmed entries are not known to PostgreSQL: it was set back, "+
			"or the same stream is drained into another database, too", n)
	}
	if n := b.marked(); n > 0 {
		say("%d of these are applied: their profiles' marks are after the checkpoint that PostgreSQL was set back to", n)
	}
	switch d := b.Difference() - b.marked(); {
	case d > 0:
		say("%d too many: %d applied + %s, but %d entries processed + %d in flight: some were counted twice",
			d, b.Applied, deadLetters(b.Dead), b.Processed, b.InFlight)
	case d < 0:
		say("%d lost: %d applied + %s, but %d entries processed + %d in flight",
			-d, b.Applied, deadLetters(b.Dead), b.Processed, b.InFlight)
	}
	switch v := b.Vanished() - b.trimmed(); {
	case v > 0 && b.redisWasSetBack():
		say("%d entries that were added to this Redis were not read: the stream was recreated or Redis was rolled back", v)
	case v > 0:
		say("%d removed unread: %d entries were ever added, %d are left and %d were read: XDEL, XTRIM or MAXLEN was used",
			v, b.Added, b.Unprocessed, b.Read)
	case v < 0:
		say("%d read that Redis does not know of: %d entries were ever added, %d are left and %d were read: "+
			"the stream was recreated or Redis was rolled back", -v, b.Added, b.Unprocessed, b.Read)
	}
	return strings.Join(all, "; ")
}

func deadLetters(n int64) string {
	if n == 1 {
		return "1 dead letter"
	}
	return fmt.Sprintf("%d dead letters", n)
}
