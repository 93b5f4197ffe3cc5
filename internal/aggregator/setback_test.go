package aggregator

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"aggregator/internal/events"
	"aggregator/internal/ledger"
)

func TestCompare(t *testing.T) {
	at := func(ms int64) events.Position { return events.Position{Ms: ms, Seq: 1} }
	checkpoint := func(ms, entries, epoch int64) ledger.Checkpoint {
		return ledger.Checkpoint{Source: "s", Position: at(ms), Entries: entries, Epoch: epoch, Updated: time.Unix(1, 0)}
	}
	mark := func(ms, entries int64) *events.Bookmark { return &events.Bookmark{Position: at(ms), Entries: entries} }
	none := ledger.Checkpoint{Source: "s"}
	// 100 entries were processed up to 50-1, of 130; 20 of them are retained.
	usual := sighting{
		before: checkpoint(50, 100, 0), after: checkpoint(50, 100, 0),
		state: events.State{Exists: true, Last: at(80), Added: 130, Length: 50, Bookmark: mark(50, 100)},
	}
	found := func(kind ledger.IncidentKind, from, to events.Position, entries, added int64) []ledger.Incident {
		return []ledger.Incident{{Source: "s", Kind: kind, From: from, To: to, Entries: entries, Added: added}}
	}
	for name, tc := range map[string]struct {
		change func(*sighting)
		want   []ledger.Incident
	}{
		"nothing":                {func(*sighting) {}, nil},
		"nothing was ever there": {func(s *sighting) { *s = sighting{before: none, after: none} }, nil},
		"no bookmark":            {func(s *sighting) { s.state.Bookmark = nil }, nil},
		"another moved both meanwhile": {
			func(s *sighting) { s.after, s.state.Bookmark = checkpoint(70, 120, 0), mark(60, 110) }, nil,
		},
		"another moved it, not trimmed": {func(s *sighting) { s.state.Bookmark = mark(40, 90) }, nil},
		"rewound, not yet committed":    {func(s *sighting) { s.state.Bookmark = &events.Bookmark{} }, nil},
		"reset meanwhile": {func(s *sighting) {
			s.after = ledger.Checkpoint{Source: "s", Entries: 80, Epoch: 1, Updated: time.Unix(1, 0)}
		}, nil},
		"begun by another meanwhile":     {func(s *sighting) { s.before, s.state.Bookmark = none, mark(60, 110) }, nil},
		"read by another program before": {func(s *sighting) { s.before, s.after = none, none }, nil},
		"without a checkpoint": {
			func(s *sighting) { s.before, s.after, s.ours = none, none, true },
			found(ledger.PostgresSetBack, at(50), at(50), 100, 100),
		},
		"PostgreSQL set back": {
			func(s *sighting) { s.state.Bookmark = mark(60, 110) },
			found(ledger.PostgresSetBack, at(50), at(60), 10, 110),
		},
		"PostgreSQL set back, and trimmed": {
			func(s *sighting) { s.state.Bookmark, s.state.Length = mark(60, 110), 20 },
			found(ledger.PostgresSetBack, at(50), at(60), 10, 110),
		},
		"PostgreSQL set back to an empty source": {
			func(s *sighting) {
				s.before = ledger.Checkpoint{Source: "s", Updated: time.Unix(1, 0)}
				s.after = s.before
			},
			found(ledger.PostgresSetBack, events.Position{}, at(50), 100, 100),
		},
		"Redis empty": {
			func(s *sighting) { s.state = events.State{} },
			found(ledger.SourceMissing, events.Position{}, at(50), 100, 0),
		},
		"Redis behind": {
			func(s *sighting) { s.state = events.State{Exists: true, Last: at(30), Added: 70, Length: 70} },
			found(ledger.RedisSetBack, at(30), at(50), 30, 0),
		},
		"Redis behind by counts": {
			func(s *sighting) { s.state.Added, s.state.Length, s.state.Bookmark = 99, 10, mark(40, 90) },
			found(ledger.RedisSetBack, at(50), at(50), 1, 0),
		},
		"removed": {
			func(s *sighting) { s.state.Length = 27 }, found(ledger.EntriesRemoved, at(50), at(50), 3, 0),
		},
		"all of the unread there": {func(s *sighting) { s.state.Length = 30 }, nil},
	} {
		s := usual
		tc.change(&s)
		assert.Equal(t, tc.want, compare(s), name)
	}
}
