package ledger_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/ledger"
)

// What is lost is what is neither in Redis nor applied by marks past the checkpoint; what Redis lost cannot be counted.
func TestLost(t *testing.T) {
	for _, c := range []struct {
		name              string
		kind              ledger.IncidentKind
		entries, retained int64
		marked            *int64
		gone, lost        int64
	}{
		{"all are still in Redis", ledger.PostgresSetBack, 50, 50, nil, 0, 0},
		{"some are gone", ledger.PostgresSetBack, 50, 20, nil, 30, 30},
		{"some of them are applied", ledger.PostgresSetBack, 50, 20, new(int64(10)), 30, 20},
		{"none of them is applied", ledger.PostgresSetBack, 50, 20, new(int64(0)), 30, 30},
		{"all are applied, and some twice marked", ledger.PostgresSetBack, 50, 20, new(int64(99)), 30, 0},
		{"more are there than were counted", ledger.PostgresSetBack, 50, 60, nil, 0, 0},
		{"Redis was set back", ledger.RedisSetBack, 50, 0, nil, 50, 0},
		{"another Redis", ledger.SourceMissing, 50, 0, nil, 50, 0},
		{"removed", ledger.EntriesRemoved, 7, 0, nil, 7, 7},
		{"missing in the counts", ledger.CountMismatch, 7, 0, nil, 7, 7},
		{"counted twice", ledger.CountMismatch, -7, 0, nil, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := ledger.Incident{Kind: c.kind, Entries: c.entries, Retained: c.retained, MarkedPast: c.marked}
			assert.Equal(t, [2]int64{c.gone, c.lost}, [2]int64{i.Gone(), i.Lost()})
		})
	}
}

// Each text says what happened, from when to when, and whether something is lost.
func TestIncidentText(t *testing.T) {
	between := func(i ledger.Incident) ledger.Incident {
		i.From, i.To = at(1_700_000_000_000, 1), at(1_700_000_060_000, 2)
		return i
	}
	const first, last = "1700000000000-1 (2023-11-14T22:13:20Z)", "1700000060000-2 (2023-11-14T22:14:20Z)"
	counted := func(i ledger.Incident) ledger.Incident {
		i = between(i)
		i.From = i.To
		return i
	}
	for name, c := range map[string]struct {
		incident  ledger.Incident
		says, not []string
	}{
		"set back, and some lost": {
			between(ledger.Incident{Kind: ledger.PostgresSetBack, Entries: 50, Retained: 20, MarkedPast: new(int64(10))}),
			[]string{
				"up to " + last, "those up to " + first, "50 lie between", "20 of them are still in Redis", "30 are gone",
				"10 are applied", "20 are lost",
			},
			[]string{"none is lost"},
		},
		"set back, and none lost": {
			between(ledger.Incident{Kind: ledger.PostgresSetBack, Entries: 50, Retained: 50, MarkedPast: new(int64(0))}),
			[]string{"none is lost", "0 are gone"},
			[]string{"are applied", "trim.retain"},
		},
		"no checkpoint": {
			counted(ledger.Incident{Kind: ledger.PostgresSetBack, Entries: 50}),
			[]string{"50 entries up to " + last, "no checkpoint"},
			[]string{"lie between"},
		},
		"Redis, by position": {
			between(ledger.Incident{Kind: ledger.RedisSetBack, Entries: 8}),
			[]string{"last entry was " + first, "up to " + last, "8 more"},
			nil,
		},
		"Redis, by count": {
			counted(ledger.Incident{Kind: ledger.RedisSetBack, Entries: 8}),
			[]string{"8 entries fewer", last},
			[]string{"last entry was"},
		},
		"Redis, at zero": {
			ledger.Incident{Kind: ledger.RedisSetBack, From: at(0, 0), To: at(0, 1)},
			[]string{"last entry was 0-0, "},
			[]string{"0-0 (1970"},
		},
		"missing, one": {ledger.Incident{Kind: ledger.SourceMissing, Entries: 1}, []string{"processed 1 entry of"}, nil},
		"missing":      {ledger.Incident{Kind: ledger.SourceMissing, Entries: 2}, []string{"processed 2 entries of"}, nil},
		"removed, one": {ledger.Incident{Kind: ledger.EntriesRemoved, Entries: 1}, []string{"1 entry was removed"}, nil},
		"removed":      {ledger.Incident{Kind: ledger.EntriesRemoved, Entries: 2}, []string{"2 entries were removed"}, nil},
		"lost, one":    {ledger.Incident{Kind: ledger.CountMismatch, Entries: 1}, []string{"1 event that", "lost"}, nil},
		"lost":         {ledger.Incident{Kind: ledger.CountMismatch, Entries: 2}, []string{"2 events that", "lost"}, nil},
		"twice, one": {
			ledger.Incident{Kind: ledger.CountMismatch, Entries: -1},
			[]string{"1 event too many", "counted twice"},
			[]string{"lost"},
		},
		"twice": {
			ledger.Incident{Kind: ledger.CountMismatch, Entries: -2},
			[]string{"2 events too many", "counted twice"},
			[]string{"lost"},
		},
		"of a later version": {ledger.Incident{Kind: "something_else"}, []string{"something_else"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			text := c.incident.String()
			assert.NotContains(t, text, "\n")
			for _, says := range c.says {
				assert.Contains(t, text, says)
			}
			for _, not := range c.not {
				assert.NotContains(t, text, not)
			}
		})
	}
	for _, kind := range ledger.IncidentKinds {
		assert.NotEqual(t, string(kind), ledger.Incident{Kind: kind}.String(), "a text of its own")
	}
}

// Beyond cuts off what is known, by the counts of the bookmark; only of the same source, kind and epoch.
func TestBeyond(t *testing.T) {
	known := setBack(10, 20, 50, 20, 150)
	change := func(by func(*ledger.Incident)) []ledger.Incident {
		i := known
		by(&i)
		return []ledger.Incident{i}
	}
	for _, c := range []struct {
		name    string
		known   []ledger.Incident
		from    int64
		entries int64
	}{
		{"nothing is known", nil, 15, 40},
		{"a part", []ledger.Incident{known}, 20, 15},
		{"a part, which is accepted", change(func(i *ledger.Incident) { i.Accepted = &i.Detected }), 20, 15},
		{"two parts", []ledger.Incident{known, setBack(20, 25, 10, 0, 160)}, 25, 5},
		{"what is before it", []ledger.Incident{setBack(1, 12, 5, 0, 120)}, 15, 40},
		{"more than all", []ledger.Incident{setBack(10, 40, 90, 0, 190)}, 40, 0},
		{"of another source", change(func(i *ledger.Incident) { i.Source = "other" }), 15, 40},
		{"of another epoch", change(func(i *ledger.Incident) { i.Epoch = 1 }), 15, 40},
		{"of another kind", change(func(i *ledger.Incident) { i.Kind = ledger.RedisSetBack }), 15, 40},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := setBack(15, 30, 40, 0, 165).Beyond(c.known)
			assert.Equal(t, at(c.from, 0), got.From)
			assert.Equal(t, at(30, 0), got.To)
			assert.Equal(t, c.entries, got.Entries)
			assert.Equal(t, c.from < 30, got.ByPosition(), "something is beyond")
		})
	}
}

// News is what Record writes: only what says more than the open incident of the kind. Rows are recorded in turn.
func TestNews(t *testing.T) {
	byCount := func(kind ledger.IncidentKind, entries int64) ledger.Incident {
		return ledger.Incident{Source: "s", Kind: kind, Entries: entries}
	}
	byPosition := func(kind ledger.IncidentKind, epoch, to, entries int64) ledger.Incident {
		return ledger.Incident{Source: "s", Kind: kind, Epoch: epoch, From: at(5, 0), To: at(to, 0), Entries: entries}
	}
	type step struct {
		incident ledger.Incident
		news     bool
		entries  int64 // of the open incident from then on
	}
	for name, steps := range map[string][]step{
		"removed: the most that was seen": {
			{byCount(ledger.EntriesRemoved, 7), true, 7},
			{byCount(ledger.EntriesRemoved, 7), false, 7},
			{byCount(ledger.EntriesRemoved, 5), false, 7},
			{byCount(ledger.EntriesRemoved, 8), true, 8},
		},
		"counts: as they are now": {
			{byCount(ledger.CountMismatch, 7), true, 7},
			{byCount(ledger.CountMismatch, 7), false, 7},
			{byCount(ledger.CountMismatch, 5), true, 5},
			{byCount(ledger.CountMismatch, -1), true, -1},
		},
		"Redis by count: the most that was seen": {
			{byCount(ledger.RedisSetBack, 7), true, 7},
			{byCount(ledger.RedisSetBack, 5), false, 7},
			{byCount(ledger.RedisSetBack, 8), true, 8},
		},
		"Redis by position: a later one, or another epoch": {
			{byPosition(ledger.RedisSetBack, 0, 20, 7), true, 7},
			{byPosition(ledger.RedisSetBack, 0, 20, 9), false, 7},
			{byPosition(ledger.RedisSetBack, 0, 19, 9), false, 7},
			{byPosition(ledger.RedisSetBack, 0, 21, 6), true, 6},
			{byPosition(ledger.RedisSetBack, 1, 10, 3), true, 3},
		},
		"another Redis": {
			{byPosition(ledger.SourceMissing, 0, 20, 7), true, 7},
			{byPosition(ledger.SourceMissing, 0, 20, 7), false, 7},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pool := connect(t)
			for n, s := range steps {
				known, err := ledger.Incidents(t.Context(), pool, "s")
				require.NoError(t, err)
				assert.Equal(t, s.news, s.incident.News(known), "step %d", n)
				recorded, changed, err := ledger.Record(t.Context(), pool, s.incident)
				require.NoError(t, err)
				assert.Equal(t, s.news, changed, "step %d", n)
				open := openOnes(t, pool)
				require.Len(t, open, 1)
				assert.Equal(t, s.entries, open[0].Entries, "step %d", n)
				assert.Equal(t, s.entries, recorded.Entries, "step %d", n)
				assert.Equal(t, open[0].ID, recorded.ID)
			}
		})
	}
	known := []ledger.Incident{setBack(10, 20, 50, 20, 150)}
	assert.False(t, setBack(12, 20, 40, 0, 150).News(known), "the same, from a later checkpoint")
	assert.True(t, setBack(10, 21, 51, 0, 151).News(known), "more, of which a part is known")
	assert.True(t, setBack(20, 21, 1, 0, 151).News(known), "what comes after it")
}

// What marks have applied is known only if it is known of both parts, and is the greater number, not the sum.
func TestMarkedPastOfTwoParts(t *testing.T) {
	for _, c := range []struct {
		name                string
		first, second, want *int64
	}{
		{"the second counts the first, too", new(int64(3)), new(int64(5)), new(int64(5))},
		{"it is not known of the first", nil, new(int64(5)), nil},
		{"it is not known of the second", new(int64(3)), nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			pool := connect(t)
			for _, part := range []struct {
				ledger.Incident
				marked *int64
			}{{setBack(10, 20, 50, 20, 150), c.first}, {setBack(20, 30, 15, 5, 165), c.second}} {
				part.MarkedPast = part.marked
				_, changed, err := ledger.Record(t.Context(), pool, part.Incident)
				require.NoError(t, err)
				require.True(t, changed)
			}
			open := openOnes(t, pool)
			require.Len(t, open, 1)
			assert.Equal(t, []int64{65, 25}, []int64{open[0].Entries, open[0].Retained})
			assert.Equal(t, c.want, open[0].MarkedPast)
		})
	}
}

// To accept ends the incidents that are named, of this source, once. Counts that agree need no new epoch.
func TestAccept(t *testing.T) {
	pool := connect(t)
	from, err := ledger.Create(t.Context(), pool, "s", at(10, 0), 100)
	require.NoError(t, err)
	var ids []int64
	for _, i := range []ledger.Incident{
		{Source: "s", Kind: ledger.EntriesRemoved, Entries: 1},
		{Source: "s", Kind: ledger.CountMismatch, Entries: 1},
		{Source: "other", Kind: ledger.CountMismatch, Entries: 1},
	} {
		recorded, _, err := ledger.Record(t.Context(), pool, i)
		require.NoError(t, err)
		ids = append(ids, recorded.ID)
	}
	require.NoError(t, ledger.AcceptIncidents(t.Context(), pool, from, []int64{ids[0], ids[2]}, "i", ledger.Rebase{}))
	require.NoError(t, ledger.AcceptIncidents(t.Context(), pool, from, ids[:1], "later", ledger.Rebase{}), "again")
	now, err := ledger.Load(t.Context(), pool, "s")
	require.NoError(t, err)
	assert.Equal(t, from, now)
	open := openOnes(t, pool)
	require.Len(t, open, 2)
	stillOpen := []int64{open[0].ID, open[1].ID}
	assert.Equal(t, ids[1:], stillOpen)
	all, err := ledger.Incidents(t.Context(), pool, "s")
	require.NoError(t, err)
	require.NotNil(t, all[0].Accepted)
	assert.Equal(t, new("i"), all[0].By, "who was first")

	// A reset came first: nothing is accepted, and the counts of its epoch stay.
	old := from
	old.Epoch--
	err = ledger.AcceptIncidents(t.Context(), pool, old, ids[1:2], "i", ledger.Rebase{Vanished: 1})
	require.ErrorIs(t, err, ledger.ErrReset)
	assert.Len(t, openOnes(t, pool), 2)

	// What comes next is an incident of its own.
	next, changed, err := ledger.Record(t.Context(), pool,
		ledger.Incident{Source: "s", Kind: ledger.EntriesRemoved, Entries: 1})
	require.NoError(t, err)
	assert.True(t, changed)
	assert.NotContains(t, ids, next.ID)
}
