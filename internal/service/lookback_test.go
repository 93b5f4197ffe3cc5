package service

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/config"
	"aggregator/internal/aggregator"
	"aggregator/internal/events"
	"aggregator/internal/ledger"
)

// lookBack drains, and looks back.
func (w *world) lookBack() ([]ledger.Incident, error) {
	w.t.Helper()
	engine, _ := w.engine()
	_, err := engine.Drain(w.t.Context(), aggregator.Limits{})
	require.NoError(w.t, err)
	return engine.LookBack(w.t.Context())
}

// What vanished unread is found by the drain after it. One that was told to stop does not look for
// anything new, but tells what is known.
func TestLookBackFindsWhatVanished(t *testing.T) {
	w := newWorld(t)
	w.like("book-like-events", 1, 2)
	open, err := w.lookBack()
	require.NoError(t, err)
	require.Empty(t, open)

	engine, _ := w.engine()
	id, err := w.redis.XAdd(t.Context(),
		&redis.XAddArgs{Stream: "book-like-events", Values: []any{"event", "1:1:LIKE"}}).Result()
	require.NoError(t, err)
	require.NoError(t, w.redis.XDel(t.Context(), "book-like-events", id).Err())
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	open, err = engine.LookBack(stopped)
	require.NoError(t, err)
	require.Empty(t, open)

	open, err = engine.LookBack(t.Context())
	require.EqualError(t, err, "open incidents: 1; aggregator verify shows them, and verify --accept ends them")
	require.Len(t, open, 1)
	require.Equal(t, "book-like-events", open[0].Source)
	require.EqualValues(t, 1, open[0].Entries)
	again, err := engine.LookBack(stopped)
	require.ErrorContains(t, err, "open incidents: 1;")
	require.Len(t, again, 1)
	require.EqualValues(t, 1, w.number(`SELECT count(*) FROM aggregator.incident`), "it is recorded once")
}

// Those of other sources are not ours to tell.
func TestOpenIncidentsOfOtherSources(t *testing.T) {
	w := newWorld(t)
	w.like("theirs", 1)
	w.cfg.Source.Key = "theirs"
	_, err := w.lookBack()
	require.NoError(t, err)
	require.NoError(t, w.redis.Del(t.Context(), "theirs").Err())
	open, err := w.lookBack()
	require.ErrorContains(t, err, "open incidents: ")
	require.NotEmpty(t, open)
	w.cfg.Source.Key = "ours"
	w.like("ours", 1)
	open, err = w.lookBack()
	require.NoError(t, err)
	require.Empty(t, open)
}

// A wrong key: nothing was ever pushed to it, and entries wait at one that was drained.
func TestWrongKeyIsNoticed(t *testing.T) {
	w := newWorld(t)
	w.like("book-like-events", 1)
	require.Zero(t, w.drained(aggregator.Limits{}))
	w.like("book-like-events", 1, 1)
	w.cfg.Source.Key = "book-like-event"
	open, err := w.lookBack()
	require.Empty(t, open)
	require.EqualError(t, err,
		"nothing was ever pushed to book-like-event in this Redis, and PostgreSQL has processed entries of "+
			"book-like-events, which the settings do not name: 2 entries wait: check source.key, source.kind, "+
			"source.partitions and redis.url")
	w.like("book-like-event", 1) // it is in use, too
	_, err = w.lookBack()
	require.NoError(t, err)
}

func TestDescribeElsewhere(t *testing.T) {
	sources, err := events.Sources(
		nil, events.Options{Kind: events.KindStream, Key: "k", Partitions: 1, Weights: config.Default().Events.Weights})
	require.NoError(t, err)
	for want, e := range map[string]events.Elsewhere{
		"k, a former source of the same key: 1,234,567 entries wait":              {Former: true, Waiting: 1234567},
		"k, a former source of the same key: 0 entries wait: it is broken":        {Former: true, Problem: "it is broken"},
		"k, which the settings do not name: it is not known whether entries wait": {Waiting: -1},
		"k, which the settings do not name: 999 entries wait":                     {Waiting: 999},
		"k, which the settings do not name: 1,000 entries wait: no right to look": {
			Waiting: 1000, Problem: "no right to look",
		},
		"k, a former source of the same key: it is not known whether entries wait": {Former: true, Waiting: -1},
		"k, a former source of the same key: 12,345 entries wait: set source.kind ": {
			Former: true, Waiting: 12345, Problem: "set source.kind ",
		},
	} {
		e.Source = sources[0]
		require.Equal(t, want, DescribeElsewhere(e))
	}
}

// Only former sources that can be drained are drained; of those that cannot, the ones that hold entries are trouble.
func TestWhatIsDoneWithSourcesElsewhere(t *testing.T) {
	sources, err := events.Sources(
		nil, events.Options{Kind: events.KindStream, Key: "k", Partitions: 2, Weights: config.Default().Events.Weights})
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		one                        events.Elsewhere
		drained, stranded, blocked bool
		looked                     bool // back at
	}{
		"waits":                {one: events.Elsewhere{Former: true, Waiting: 1}, drained: true},
		"waits, was processed": {one: events.Elsewhere{Former: true, Known: true, Waiting: 1}, drained: true, looked: true},
		"empty":                {one: events.Elsewhere{Former: true, Known: true}, looked: true},
		"not known":            {one: events.Elsewhere{Former: true, Waiting: -1}},
		"a problem": {
			one: events.Elsewhere{Former: true, Known: true, Waiting: 1, Problem: "p"}, stranded: true,
		},
		"an empty one's problem": {one: events.Elsewhere{Former: true, Problem: "p"}},
		"in the way": {
			one: events.Elsewhere{Former: true, Waiting: 1, Problem: "p", Halts: true}, stranded: true, blocked: true,
		},
		"of another key": {one: events.Elsewhere{Known: true, Waiting: 1}},
	} {
		tc.one.Source = sources[0]
		all := []events.Elsewhere{tc.one, {Source: sources[1]}}
		require.Equal(t, tc.drained, drainable(tc.one), name)
		require.Equal(t, tc.blocked, blocked(all) != nil, name)
		require.Equal(t, tc.looked, len(Former(all)) > 0, name)
		if !tc.stranded {
			require.NoError(t, stranded(all), name)
			continue
		}
		require.EqualError(t, stranded(all), "entries wait in former sources that cannot be drained: k:{0}: p", name)
	}
}
