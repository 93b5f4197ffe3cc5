package events_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/events"
	"aggregator/internal/testenv"
)

func addTo(t *testing.T, client *redis.Client, key string, n int) {
	t.Helper()
	for range n {
		require.NoError(t, client.XAdd(t.Context(), &redis.XAddArgs{
			Stream: key, Values: []any{"event", "1:7:LIKE"},
		}).Err())
	}
}

func pushTo(t *testing.T, client *redis.Client, key string, n int) {
	t.Helper()
	for range n {
		require.NoError(t, client.LPush(t.Context(), key, "1:7:LIKE").Err())
	}
}

// What waits where the settings do not look is found, of either kind and of another number of partitions. What is
// empty is not, unless it was processed before.
func TestFindElsewhere(t *testing.T) {
	t.Parallel()
	one := events.Options{Kind: events.KindStream, Key: "s", Partitions: 1, PushSide: events.PushLeft}
	two, list := one, one
	two.Partitions, list.Kind = 2, events.KindList
	for name, c := range map[string]struct {
		options events.Options
		fill    func(t *testing.T, client *redis.Client)
		known   []events.Known
		extra   []string
		want    map[string]events.Elsewhere // without their sources
	}{
		"nothing": {one, func(t *testing.T, client *redis.Client) { addTo(t, client, "s", 3) }, nil, nil, nil},
		"partitions of before": {one, func(t *testing.T, client *redis.Client) {
			addTo(t, client, "s:{0}", 2)
			addTo(t, client, "s:{2}", 1)
		}, nil, nil, map[string]events.Elsewhere{
			"s:{0}": {Former: true, Waiting: 2}, "s:{2}": {Former: true, Waiting: 1},
		}},
		"three are missing in a row": {one, func(t *testing.T, client *redis.Client) {
			addTo(t, client, "s:{2}", 1)
			addTo(t, client, "s:{6}", 1)
		}, nil, nil, map[string]events.Elsewhere{"s:{2}": {Former: true, Waiting: 1}}},
		"beyond one that is known": {one, func(t *testing.T, client *redis.Client) {
			addTo(t, client, "s:{6}", 1)
		}, []events.Known{{Name: "s:{7}"}}, nil, map[string]events.Elsewhere{
			"s:{6}": {Former: true, Waiting: 1}, "s:{7}": {Former: true, Known: true},
		}},
		"one key of before": {two, func(t *testing.T, client *redis.Client) {
			addTo(t, client, "s", 4)
			addTo(t, client, "s:{1}", 9)
		}, nil, nil, map[string]events.Elsewhere{"s": {Former: true, Waiting: 4}}},
		"a list of before": {two, func(t *testing.T, client *redis.Client) {
			pushTo(t, client, "s", 4)
			addTo(t, client, "{s}:stream", 1)
		}, nil, nil, map[string]events.Elsewhere{"{s}:stream": {Former: true, Waiting: 5}}},
		"a list where a stream should be": {one, func(t *testing.T, client *redis.Client) {
			pushTo(t, client, "s", 4)
		}, nil, nil, map[string]events.Elsewhere{
			"{s}:stream": {Former: true, Waiting: 4, Halts: true, Problem: "set source.kind to list"},
		}},
		"a stream where a list should be": {list, func(t *testing.T, client *redis.Client) {
			addTo(t, client, "s", 4)
		}, nil, nil, map[string]events.Elsewhere{
			"s": {Former: true, Waiting: 4, Halts: true, Problem: "set source.kind to stream"},
		}},
		"another key": {one, func(t *testing.T, client *redis.Client) {
			addTo(t, client, "named", 2)
			addTo(t, client, "other", 2)
		}, nil, []string{"named", "not there"}, map[string]events.Elsewhere{"named": {Waiting: 2}}},
		"another key that is known": {
			one, func(*testing.T, *redis.Client) {},
			[]events.Known{{Name: "other"}},
			nil,
			map[string]events.Elsewhere{"other": {Known: true}},
		},
		"something else now": {one, func(t *testing.T, client *redis.Client) {
			require.NoError(t, client.Set(t.Context(), "other", 1, 0).Err())
			require.NoError(t, client.Set(t.Context(), "named", 1, 0).Err())
		}, []events.Known{{Name: "other"}}, []string{"named"}, map[string]events.Elsewhere{
			"other": {Known: true, Problem: "holds something else now"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := connect(t, testenv.Redis(t))
			c.fill(t, client)
			found, err := events.FindElsewhere(t.Context(), client, c.options, c.known, c.extra)
			require.NoError(t, err)
			names := []string{}
			for _, e := range found {
				name := e.Source.Name()
				names = append(names, name)
				want, expected := c.want[name]
				if !expected {
					continue
				}
				assert.Contains(t, e.Problem, want.Problem)
				if want.Problem == "" {
					assert.Empty(t, e.Problem)
				}
				want.Source, want.Problem = e.Source, e.Problem
				assert.Equal(t, want, e, name)
			}
			wanted := []string{}
			for name := range c.want {
				wanted = append(wanted, name)
			}
			assert.ElementsMatch(t, wanted, names)
		})
	}
}

// What a reset and a preview look at changes nothing: entries between two positions, the oldest, and what a list holds.
func TestLookingChangesNothing(t *testing.T) {
	t.Parallel()
	client := connect(t, testenv.Redis(t))
	source := open(t, client, events.Options{Kind: events.KindList, Key: "l", PushSide: events.PushLeft})[0]
	stream := source.Name()
	for _, id := range []string{"5-1", "5-2", "6-0", "9-0"} {
		require.NoError(t, client.XAdd(t.Context(), &redis.XAddArgs{
			Stream: stream, ID: id, Values: []any{"event", id + ":7:LIKE"},
		}).Err())
	}
	pushTo(t, client, "l", 3)
	at := func(ms, seq int64) events.Position { return events.Position{Ms: ms, Seq: seq} }

	upTo, all, err := source.Held(t.Context(), at(6, 0))
	require.NoError(t, err)
	assert.Equal(t, [2]int64{3, 7}, [2]int64{upTo, all})

	for _, c := range []struct {
		after, to events.Position
		want      []events.Position
	}{
		{at(0, 0), at(99, 0), []events.Position{at(5, 1), at(5, 2), at(6, 0), at(9, 0)}},
		{at(5, 1), at(6, 0), []events.Position{at(5, 2), at(6, 0)}},
		{at(6, 0), at(8, events.MaxSeq), nil},
	} {
		var got []events.Position
		require.NoError(t, source.Entries(t.Context(), c.after, c.to, func(page []events.Entry) error {
			for _, e := range page {
				got = append(got, e.Position)
				assert.Equal(t, e.Position.String()+":7:LIKE", string(e.Payload.Bytes))
				assert.Equal(t, events.FormEvent, e.Payload.Form)
			}
			return nil
		}))
		assert.Equal(t, c.want, got)
	}

	for _, c := range []struct{ after, want events.Position }{
		{at(0, 0), at(5, 1)}, {at(5, 1), at(5, 2)}, {at(6, 1), at(9, 0)}, {at(9, 0), events.Position{}},
	} {
		got, err := source.Oldest(t.Context(), c.after)
		require.NoError(t, err)
		assert.Equal(t, c.want, got)
	}

	peek := source.Peek()
	batch := events.Batch{Last: at(6, 0)}
	read := []int{}
	for {
		n, err := peek.Read(t.Context(), &batch, 2)
		require.NoError(t, err)
		if n == 0 {
			break
		}
		read = append(read, n)
	}
	assert.Equal(t, []int{1, 2, 1}, read, "the stream, then the list")
	assert.Equal(t, 4, batch.Entries)

	upTo, all, err = source.Held(t.Context(), at(6, 0))
	require.NoError(t, err)
	assert.Equal(t, [2]int64{3, 7}, [2]int64{upTo, all})
	assert.EqualValues(t, 3, client.LLen(t.Context(), "l").Val())
}
