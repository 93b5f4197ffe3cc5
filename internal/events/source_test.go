package events_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/events"
	"aggregator/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func connect(t *testing.T, url string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(url)
	require.NoError(t, err)
	options.MaxRetries = -1
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

var weights = events.Weights{"LIKE": 2, "DISLIKE": -2}

func open(t *testing.T, client redis.UniversalClient, o events.Options) []*events.Source {
	t.Helper()
	o.Weights = weights
	if o.Partitions == 0 {
		o.Partitions = 1
	}
	sources, err := events.Sources(client, o)
	require.NoError(t, err)
	return sources
}

// Every kind of source gives the same events, in the order they were pushed in.
func TestReadInOrder(t *testing.T) {
	const n = 2500
	kinds := []struct {
		name    string
		options events.Options
		push    func(p redis.Pipeliner, key string, i int)
	}{
		{"stream of texts", events.Options{Kind: events.KindStream, Key: "s"}, func(p redis.Pipeliner, key string, i int) {
			p.XAdd(t.Context(), &redis.XAddArgs{Stream: key, Values: []any{"event", fmt.Sprintf("%d:7:LIKE", i)}})
		}},
		{"stream of fields", events.Options{Kind: events.KindStream, Key: "s"}, func(p redis.Pipeliner, key string, i int) {
			p.XAdd(t.Context(), &redis.XAddArgs{Stream: key, Values: []any{"action", "LIKE", "child_profile_id", i, "book_id", 7}})
		}},
		{"list pushed left", events.Options{Kind: events.KindList, Key: "l", PushSide: events.PushLeft}, func(p redis.Pipeliner, key string, i int) {
			p.LPush(t.Context(), key, fmt.Sprintf("%d:7:LIKE", i))
		}},
		{"list pushed right", events.Options{Kind: events.KindList, Key: "l", PushSide: events.PushRight}, func(p redis.Pipeliner, key string, i int) {
			p.RPush(t.Context(), key, fmt.Sprintf("%d:7:LIKE", i))
		}},
	}
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			client := connect(t, testenv.Redis(t))
			source := open(t, client, kind.options)[0]
			push := client.Pipeline()
			for i := range n {
				kind.push(push, source.Key(), i)
			}
			_, err := push.Exec(t.Context())
			require.NoError(t, err)
			waiting, err := source.Waiting(t.Context(), events.Position{}, 0)
			require.NoError(t, err)
			assert.EqualValues(t, n, waiting)

			var batch events.Batch
			for {
				got, err := source.Read(t.Context(), &batch, 700)
				require.NoError(t, err)
				if got == 0 {
					break
				}
			}
			require.Len(t, batch.Events, n)
			for i, e := range batch.Events {
				require.EqualValues(t, i, e.ProfileID)
			}
			assert.Equal(t, batch.Events[n-1].Position, batch.Last)

			trimmed, err := source.Trim(t.Context(), batch.Last, n, 0)
			require.NoError(t, err)
			assert.Equal(t, events.Trimmed{Entries: n}, trimmed)
			waiting, err = source.Waiting(t.Context(), batch.Last, n)
			require.NoError(t, err)
			assert.Zero(t, waiting)
		})
	}
}

func TestEntriesThatAreNoEvents(t *testing.T) {
	t.Parallel()
	client := connect(t, testenv.Redis(t))
	source := open(t, client, events.Options{Kind: events.KindStream, Key: "s"})[0]
	three := func(profile, book, action string) []any {
		return []any{"child_profile_id", profile, "book_id", book, "action", action}
	}
	entries := []struct {
		name   string
		values []any
		want   events.Reason
		form   events.Form
	}{
		{"wrong name", []any{"evnt", "1:2:LIKE"}, events.MissingField, events.FormEntry},
		{"one field too many", []any{"event", "1:2:LIKE", "trace", "x"}, events.MissingField, events.FormEntry},
		{"event twice", []any{"event", "1:2:LIKE", "event", "1:3:LIKE"}, events.MissingField, events.FormEntry},
		{"a field twice", []any{"child_profile_id", "1", "child_profile_id", "1", "action", "LIKE"}, events.MissingField, events.FormEntry},
		{"two of three", []any{"child_profile_id", "1", "book_id", "2"}, events.MissingField, events.FormEntry},
		{"four", append(three("1", "2", "LIKE"), "more", "x"), events.MissingField, events.FormEntry},
		{"empty event", []any{"event", ""}, events.Malformed, events.FormEvent},
		{"empty field", three("1", "", "LIKE"), events.Malformed, events.FormEntry},
		{"negative", three("-1", "2", "LIKE"), events.OutOfRange, events.FormEntry},
		{"overflow", three("1", "9223372036854775808", "LIKE"), events.OutOfRange, events.FormEntry},
		{"invalid UTF-8", three("1", "2", "\xff"), events.InvalidUTF8, events.FormEntry},
		{"a megabyte", []any{"event", strings.Repeat("\x00", 1<<20)}, events.Malformed, events.FormEvent},
	}
	for _, e := range entries {
		require.NoError(t, client.XAdd(t.Context(), &redis.XAddArgs{Stream: "s", Values: e.values}).Err())
	}
	var batch events.Batch
	_, err := source.Read(t.Context(), &batch, 100)
	require.NoError(t, err)
	assert.Empty(t, batch.Events)
	rejected := len(batch.Rejected) // not Len, which would print a megabyte
	require.Equal(t, len(entries), rejected)
	for i, e := range entries {
		t.Run(e.name, func(t *testing.T) {
			got := batch.Rejected[i]
			assert.Equal(t, e.want, got.Reason)
			assert.Equal(t, e.form, got.Payload.Form)
			if e.form == events.FormEvent {
				assert.Equal(t, e.values[1], string(got.Payload.Bytes))
			}
			_, reason, _ := weights.Decode(got.Payload)
			assert.Equal(t, e.want, reason, "a payload says again what it said first")
		})
	}
}

// An entry whose action alone is unknown is still of a profile, and is settled with it.
func TestUnknownActionIsOfItsProfile(t *testing.T) {
	t.Parallel()
	client := connect(t, testenv.Redis(t))
	source := open(t, client, events.Options{Kind: events.KindStream, Key: "s"})[0]
	for _, values := range [][]any{{"event", "1:2:EAT"}, {"action", "EAT", "child_profile_id", "1", "book_id", "2"}} {
		require.NoError(t, client.XAdd(t.Context(), &redis.XAddArgs{Stream: "s", Values: values}).Err())
	}
	var batch events.Batch
	_, err := source.Read(t.Context(), &batch, 100)
	require.NoError(t, err)
	require.Empty(t, batch.Rejected)
	require.Len(t, batch.Events, 2)
	for _, e := range batch.Events {
		assert.True(t, e.NoWeight)
		assert.EqualValues(t, 1, e.ProfileID)
		assert.EqualValues(t, 2, e.BookID)
		_, reason, _ := weights.Decode(e.Payload)
		assert.Equal(t, events.UnknownAction, reason)
	}
}

func TestKeys(t *testing.T) {
	cases := []struct {
		options      events.Options
		keys, stream []string
	}{
		{events.Options{Kind: events.KindStream, Key: "s"}, []string{"s"}, []string{"s"}},
		{events.Options{Kind: events.KindStream, Key: "s", Partitions: 2}, []string{"s:{0}", "s:{1}"}, []string{"s:{0}", "s:{1}"}},
		{events.Options{Kind: events.KindList, Key: "l"}, []string{"l"}, []string{"{l}:stream"}},
		{events.Options{Kind: events.KindList, Key: "a{b}c"}, []string{"a{b}c"}, []string{"a{b}c:stream"}},
		{events.Options{Kind: events.KindList, Key: "x{y"}, []string{"x{y"}, []string{"{x{y}:stream"}},
		{events.Options{Kind: events.KindList, Key: "l", Partitions: 2}, []string{"l:{0}", "l:{1}"}, []string{"l:{0}:stream", "l:{1}:stream"}},
	}
	for _, c := range cases {
		t.Run(c.options.Key, func(t *testing.T) {
			for i, s := range open(t, nil, c.options) {
				assert.Equal(t, c.keys[i], s.Key())
				assert.Equal(t, c.stream[i], s.Name())
			}
		})
	}
	for _, key := range []string{"a}b", "{}", "}{"} {
		_, err := events.Sources(nil, events.Options{Kind: events.KindList, Key: key, Partitions: 1})
		assert.ErrorContains(t, err, key)
	}
}

func add(t *testing.T, client *redis.Client, stream string, ids ...string) {
	t.Helper()
	for _, id := range ids {
		require.NoError(t, client.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, ID: id, Values: []any{"event", "1:2:LIKE"}}).Err())
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
			read, err := c.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "other", Consumer: "c", Streams: []string{"s", ">"}, Count: 3}).Result()
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
				trimmed, err := source.Trim(ctx, position(t, "5-0"), 5, 0)
				require.NoError(t, err)
				assert.False(t, trimmed.Behind)
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
	_, err := source.Read(t.Context(), &batch, 10)
	require.NoError(t, err)
	trimmed, err := source.Trim(t.Context(), batch.Last, 2, time.Hour)
	require.NoError(t, err)
	assert.EqualValues(t, 1, trimmed.Entries)
	trimmed, err = source.Trim(t.Context(), batch.Last, 2, 0)
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
		_, err := source.Trim(ctx, position(t, at), entries, 0)
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
	n, err := list.Read(ctx, &batch, 10)
	require.NoError(t, err)
	require.Equal(t, 3, n)
	trimmed, err := list.Trim(ctx, batch.Last, 3, 0)
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
			require.NoError(t, c.XReadGroup(ctx, &redis.XReadGroupArgs{Group: events.Group, Consumer: "c", Streams: []string{"s", ">"}, Count: 2, NoAck: true}).Err())
		}, "2-0", 2},
		{"a group with an entry pending", func(t *testing.T, c *redis.Client) {
			add(t, c, "s", "1-1", "2-5", "3-0")
			require.NoError(t, c.XGroupCreate(ctx, "s", events.Group, "0").Err())
			require.NoError(t, c.XReadGroup(ctx, &redis.XReadGroupArgs{Group: events.Group, Consumer: "c", Streams: []string{"s", ">"}}).Err())
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
	trimmed, err := source.Trim(ctx, far, 42, 0)
	require.NoError(t, err)
	assert.True(t, trimmed.Behind, "no stream")

	add(t, client, "s", "3-0")
	trimmed, err = source.Trim(ctx, far, 42, 0)
	require.NoError(t, err)
	assert.Equal(t, events.Trimmed{Behind: true}, trimmed)
	passed, err := source.Raise(ctx, far, 42)
	require.NoError(t, err)
	assert.EqualValues(t, 1, passed)
	passed, err = source.Raise(ctx, far, 42)
	require.NoError(t, err)
	assert.Zero(t, passed, "safe to repeat")

	add(t, client, "s", "*")
	var batch events.Batch
	batch.Last = far
	n, err := source.Read(ctx, &batch, 10)
	require.NoError(t, err)
	assert.Equal(t, 1, n)

	require.NoError(t, client.Del(ctx, "s").Err())
	passed, err = source.Raise(ctx, far, 42)
	require.NoError(t, err)
	assert.Zero(t, passed)
	state, err := source.Inspect(ctx)
	require.NoError(t, err)
	assert.Equal(t, far, state.Last)
	assert.EqualValues(t, 42, state.Added)
}

func TestWait(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{events.KindStream, events.KindList} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			client := connect(t, testenv.Redis(t))
			source := open(t, client, events.Options{Kind: kind, Key: "k", PushSide: events.PushRight})[0]
			found, err := source.Wait(t.Context(), events.Position{}, 10*time.Millisecond)
			require.NoError(t, err)
			assert.False(t, found)

			pushed := make(chan error, 1)
			go func() {
				if kind == events.KindList {
					pushed <- client.RPush(context.Background(), "k", "1:2:LIKE").Err()
					return
				}
				pushed <- client.XAdd(context.Background(), &redis.XAddArgs{Stream: "k", Values: []any{"event", "1:2:LIKE"}}).Err()
			}()
			found, err = source.Wait(t.Context(), events.Position{}, 10*time.Second)
			require.NoError(t, err)
			assert.True(t, found)
			require.NoError(t, <-pushed)
		})
	}
}

// What is not a stream or list must be an error, never taken for nothing.
func TestWrongTypes(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	client := connect(t, testenv.Redis(t))
	require.NoError(t, client.Set(ctx, "k", "x", 0).Err())
	require.NoError(t, client.RPush(ctx, "l", "1:2:LIKE").Err())
	require.NoError(t, client.Set(ctx, "{l}:stream", "x", 0).Err())
	for _, o := range []events.Options{
		{Kind: events.KindStream, Key: "k"},
		{Kind: events.KindList, Key: "k", PushSide: events.PushLeft},
		{Kind: events.KindList, Key: "l", PushSide: events.PushRight},
	} {
		source := open(t, client, o)[0]
		_, err := source.Read(ctx, &events.Batch{}, 10)
		require.ErrorContains(t, err, "WRONGTYPE")
	}
	n, err := client.LLen(ctx, "l").Result()
	require.NoError(t, err)
	assert.EqualValues(t, 1, n, "the list is as it was")
}
