package events_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/events"
	"aggregator/internal/testenv"
)

func add(t *testing.T, client *redis.Client, stream string, ids ...string) {
	t.Helper()
	for _, id := range ids {
		require.NoError(t, client.XAdd(
			t.Context(), &redis.XAddArgs{Stream: stream, ID: id, Values: []any{"event", "1:2:LIKE"}}).Err())
	}
}

func ids(t *testing.T, client *redis.Client, stream string) []string {
	t.Helper()
	entries, err := client.XRange(t.Context(), stream, "-", "+").Result()
	require.NoError(t, err)
	list := []string{}
	for _, e := range entries {
		list = append(list, e.ID)
	}
	return list
}

func position(t *testing.T, text string) events.Position {
	t.Helper()
	p, err := events.ParsePosition(text)
	require.NoError(t, err)
	return p
}

// Trimming leaves what any other group still needs.
func TestTrimRespectsOtherGroups(t *testing.T) {
	ctx := t.Context()
	cases := []struct {
		name  string
		other func(t *testing.T, client *redis.Client)
		want  []string
	}{
		{"nobody else", func(*testing.T, *redis.Client) {}, []string{"6-0"}},
		{"a group that has read nothing", func(t *testing.T, c *redis.Client) {
			require.NoError(t, c.XGroupCreate(ctx, "s", "other", "0").Err())
		}, []string{"1-1", "2-0", "3-0", "4-0", "5-0", "6-0"}},
		{"a group that lags", func(t *testing.T, c *redis.Client) {
			require.NoError(t, c.XGroupCreate(ctx, "s", "other", "3-0").Err())
		}, []string{"4-0", "5-0", "6-0"}},
		{"a group that is ahead", func(t *testing.T, c *redis.Client) {
			require.NoError(t, c.XGroupCreate(ctx, "s", "other", "6-0").Err())
		}, []string{"6-0"}},
		{"a pending entry", func(t *testing.T, c *redis.Client) {
			require.NoError(t, c.XGroupCreate(ctx, "s", "other", "1-1").Err())
			read, err := c.XReadGroup(
				ctx, &redis.XReadGroupArgs{Group: "other", Consumer: "c", Streams: []string{"s", ">"}, Count: 3}).Result()
			require.NoError(t, err)
			require.NoError(t, c.XAck(ctx, "s", "other", read[0].Messages[0].ID, read[0].Messages[2].ID).Err())
		}, []string{"3-0", "4-0", "5-0", "6-0"}},
		{"two groups", func(t *testing.T, c *redis.Client) {
			require.NoError(t, c.XGroupCreate(ctx, "s", "one", "4-0").Err())
			require.NoError(t, c.XGroupCreate(ctx, "s", "two", "2-0").Err())
		}, []string{"3-0", "4-0", "5-0", "6-0"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := connect(t, testenv.Redis(t))
			source := open(t, client, events.Options{Kind: events.KindStream, Key: "s"})[0]
			add(t, client, "s", "1-1", "2-0", "3-0", "4-0", "5-0", "6-0")
			c.other(t, client)
			for range 2 { // safe to repeat
				trimmed, err := source.Trim(ctx, position(t, "5-0"), 5, 0, events.Seen{})
				require.NoError(t, err)
				assert.False(t, trimmed.WentBack)
				assert.Equal(t, c.want, ids(t, client, "s"))
			}
			groups, err := client.XInfoGroups(ctx, "s").Result()
			require.NoError(t, err)
			for _, g := range groups {
				if g.Name == events.Group {
					assert.Equal(t, "5-0", g.LastDeliveredID)
					assert.EqualValues(t, 1, g.Lag, "the bookmark shows the true lag")
				}
			}
		})
	}
}

func TestTrimRetainsForAWhile(t *testing.T) {
	t.Parallel()
	client := connect(t, testenv.Redis(t))
	source := open(t, client, events.Options{Kind: events.KindStream, Key: "s"})[0]
	add(t, client, "s", "1-1", "*")
	var batch events.Batch
	_, err := source.Read(t.Context(), &batch, 10, 0)
	require.NoError(t, err)
	trimmed, err := source.Trim(t.Context(), batch.Last, 2, time.Hour, events.Seen{})
	require.NoError(t, err)
	assert.EqualValues(t, 1, trimmed.Entries)
	trimmed, err = source.Trim(t.Context(), batch.Last, 2, 0, events.Seen{})
	require.NoError(t, err)
	assert.EqualValues(t, 1, trimmed.Entries)
}

// The bookmark only ever goes forward, and comes back when it was deleted.
func TestBookmark(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	client := connect(t, testenv.Redis(t))
	source := open(t, client, events.Options{Kind: events.KindStream, Key: "s"})[0]
	add(t, client, "s", "1-1", "2-0", "3-0")
	trim := func(at string, entries int64) {
		_, err := source.Trim(ctx, position(t, at), entries, 0, events.Seen{})
		require.NoError(t, err)
	}
	bookmark := func() events.Bookmark {
		state, err := source.Inspect(ctx)
		require.NoError(t, err)
		require.NotNil(t, state.Bookmark)
		return *state.Bookmark
	}
	trim("2-0", 2)
	trim("1-1", 1)
	assert.Equal(t, events.Bookmark{Position: position(t, "2-0"), Entries: 2}, bookmark())
	require.NoError(t, client.XGroupDestroy(ctx, "s", events.Group).Err())
	trim("3-0", 3)
	assert.Equal(t, events.Bookmark{Position: position(t, "3-0"), Entries: 3}, bookmark())
}

// An attempt that began before a reset does not trim any more, wherever it had seen the bookmark, and
// wherever a later attempt has moved it since; one that begins after the reset does.
func TestResetFencesOff(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, seen := range []string{"0-0", "2-0", "4-0"} {
		for _, since := range []string{"0-0", "3-0", "5-0"} {
			t.Run("seen at "+seen+", now at "+since, func(t *testing.T) {
				t.Parallel()
				client := connect(t, testenv.Redis(t))
				source := open(t, client, events.Options{Kind: events.KindStream, Key: "s"})[0]
				add(t, client, "s", "1-0", "2-0", "3-0", "4-0", "5-0", "6-0")
				require.NoError(t, client.XGroupCreate(ctx, "s", "slow", "0").Err()) // it needs all entries
				trim := func(at string, by events.Seen) events.Trimmed {
					to := position(t, at)
					trimmed, err := source.Trim(ctx, to, to.Ms, 0, by)
					require.NoError(t, err)
					return trimmed
				}
				begin := func() events.Seen {
					state, err := source.Inspect(ctx)
					require.NoError(t, err)
					return state.Seen()
				}
				for range 2 { // two resets are told apart, too
					if seen != "0-0" {
						require.False(t, trim(seen, begin()).WentBack)
					}
					old := begin()
					_, err := source.Rewind(ctx)
					require.NoError(t, err)
					if since != "0-0" {
						require.False(t, trim(since, begin()).WentBack)
					}
					require.True(t, trim("6-0", old).WentBack)
					require.Equal(t, since, begin().Bookmark.String())
				}
				require.Len(t, ids(t, client, "s"), 6)

				require.NoError(t, client.XGroupDestroy(ctx, "s", "slow").Err())
				require.EqualValues(t, 6, trim("6-0", begin()).Entries, "the fence holds nothing back")
			})
		}
	}
}

func TestTrimFreesAFullRedis(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	client := connect(t, testenv.Redis(t))
	list := open(t, client, events.Options{Kind: events.KindList, Key: "l", PushSide: events.PushLeft})[0]
	for range 3 {
		require.NoError(t, client.LPush(ctx, "l", "1:2:LIKE").Err())
	}
	require.NoError(t, client.ConfigSet(ctx, "maxmemory", "1").Err())
	require.ErrorContains(t, client.LPush(ctx, "l", "1:2:LIKE").Err(), "OOM")
	var batch events.Batch
	n, err := list.Read(ctx, &batch, 10, 0)
	require.NoError(t, err)
	require.Equal(t, 3, n)
	trimmed, err := list.Trim(ctx, batch.Last, 3, 0, events.Seen{})
	require.NoError(t, err)
	assert.EqualValues(t, 3, trimmed.Entries)
	state, err := list.Inspect(ctx)
	require.NoError(t, err)
	assert.Equal(t, batch.Last, state.Bookmark.Position)
}

func TestBegin(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	cases := []struct {
		name    string
		prepare func(t *testing.T, c *redis.Client)
		at      string
		entries int64
	}{
		{"no stream", func(*testing.T, *redis.Client) {}, "0-0", 0},
		{"no group", func(t *testing.T, c *redis.Client) { add(t, c, "s", "1-1", "2-0") }, "0-0", 0},
		{"no group, trimmed before", func(t *testing.T, c *redis.Client) {
			add(t, c, "s", "1-1", "2-0", "3-0")
			require.NoError(t, c.XTrimMinID(ctx, "s", "3-0").Err())
		}, "0-0", 2},
		{"a group that has acknowledged all it read", func(t *testing.T, c *redis.Client) {
			add(t, c, "s", "1-1", "2-0", "3-0")
			require.NoError(t, c.XGroupCreate(ctx, "s", events.Group, "0").Err())
			require.NoError(t, c.XReadGroup(
				ctx, &redis.XReadGroupArgs{
					Group: events.Group, Consumer: "c", Streams: []string{"s", ">"}, Count: 2, NoAck: true,
				}).Err())
		}, "2-0", 2},
		{"a group with an entry pending", func(t *testing.T, c *redis.Client) {
			add(t, c, "s", "1-1", "2-5", "3-0")
			require.NoError(t, c.XGroupCreate(ctx, "s", events.Group, "0").Err())
			require.NoError(t, c.XReadGroup(
				ctx, &redis.XReadGroupArgs{Group: events.Group, Consumer: "c", Streams: []string{"s", ">"}}).Err())
			require.NoError(t, c.XAck(ctx, "s", events.Group, "1-1", "3-0").Err())
		}, "2-4", 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := connect(t, testenv.Redis(t))
			source := open(t, client, events.Options{Kind: events.KindStream, Key: "s"})[0]
			c.prepare(t, client)
			state, err := source.Inspect(ctx)
			require.NoError(t, err)
			at, entries := state.Begin()
			assert.Equal(t, c.at, at.String())
			assert.Equal(t, c.entries, entries)
		})
	}
}

// A stream that was made anew must not give ids that the marks have passed.
func TestRaise(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	far := position(t, "99999999999999-7")
	client := connect(t, testenv.Redis(t))
	source := open(t, client, events.Options{Kind: events.KindStream, Key: "s"})[0]
	trimmed, err := source.Trim(ctx, far, 42, 0, events.Seen{})
	require.NoError(t, err)
	assert.True(t, trimmed.WentBack, "no stream")

	add(t, client, "s", "3-0")
	trimmed, err = source.Trim(ctx, far, 42, 0, events.Seen{})
	require.NoError(t, err)
	assert.Equal(t, events.Trimmed{WentBack: true}, trimmed)
	raised, err := source.Raise(ctx, far, 42)
	require.NoError(t, err)
	assert.Equal(t, events.Raised{Before: 1, Kept: "{s}:behind:" + far.String()}, raised)
	assert.Equal(t, []string{"3-0"}, ids(t, client, raised.Kept))
	raised, err = source.Raise(ctx, far, 42)
	require.NoError(t, err)
	assert.Zero(t, raised, "safe to repeat")

	add(t, client, "s", "*")
	var batch events.Batch
	batch.Last = far
	n, err := source.Read(ctx, &batch, 10, 0)
	require.NoError(t, err)
	assert.Equal(t, 1, n)

	require.NoError(t, client.Del(ctx, "s").Err())
	raised, err = source.Raise(ctx, far, 42)
	require.NoError(t, err)
	assert.Zero(t, raised)
	state, err := source.Inspect(ctx)
	require.NoError(t, err)
	assert.Equal(t, far, state.Last)
	assert.EqualValues(t, 42, state.Added)

	// Made anew behind the same position a second time, before what was kept is gone.
	require.NoError(t, client.Del(ctx, "s").Err())
	add(t, client, "s", "4-0")
	_, err = source.Raise(ctx, far, 42)
	require.ErrorContains(t, err, "BUSYKEY")
	assert.Equal(t, []string{"4-0"}, ids(t, client, "s"))

	// An older state of the stream that was read: its entries were applied.
	require.NoError(t, client.Do(ctx, "XGROUP", "CREATE", "s", events.Group, "4-0").Err())
	raised, err = source.Raise(ctx, far, 42)
	require.NoError(t, err)
	assert.Equal(t, events.Raised{Before: 1}, raised)
}
