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

var weights = map[string]float64{"LIKE": 2, "DISLIKE": -2}

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
			p.XAdd(t.Context(), &redis.XAddArgs{
				Stream: key, Values: []any{"action", "LIKE", "child_profile_id", i, "book_id", 7},
			})
		}},
		{
			"list pushed left",
			events.Options{Kind: events.KindList, Key: "l", PushSide: events.PushLeft},
			func(p redis.Pipeliner, key string, i int) {
				p.LPush(t.Context(), key, fmt.Sprintf("%d:7:LIKE", i))
			},
		},
		{
			"list pushed right",
			events.Options{Kind: events.KindList, Key: "l", PushSide: events.PushRight},
			func(p redis.Pipeliner, key string, i int) {
				p.RPush(t.Context(), key, fmt.Sprintf("%d:7:LIKE", i))
			},
		},
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
				got, err := source.Read(t.Context(), &batch, 700, 0)
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

			trimmed, err := source.Trim(t.Context(), batch.Last, n, 0, events.Seen{})
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
		{
			"a field twice",
			[]any{"child_profile_id", "1", "child_profile_id", "1", "action", "LIKE"},
			events.MissingField,
			events.FormEntry,
		},
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
	_, err := source.Read(t.Context(), &batch, 100, 0)
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
			_, reason, _ := events.NewDecoder(weights).Decode(got.Payload)
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
	_, err := source.Read(t.Context(), &batch, 100, 0)
	require.NoError(t, err)
	require.Empty(t, batch.Rejected)
	require.Len(t, batch.Events, 2)
	for _, e := range batch.Events {
		assert.Nil(t, e.Action)
		assert.EqualValues(t, 1, e.ProfileID)
		assert.EqualValues(t, 2, e.BookID)
		_, reason, _ := events.NewDecoder(weights).Decode(e.Payload())
		assert.Equal(t, events.UnknownAction, reason)
	}
}

func TestKeys(t *testing.T) {
	cases := []struct {
		options      events.Options
		keys, stream []string
	}{
		{events.Options{Kind: events.KindStream, Key: "s"}, []string{"s"}, []string{"s"}},
		{
			events.Options{Kind: events.KindStream, Key: "s", Partitions: 2},
			[]string{"s:{0}", "s:{1}"},
			[]string{"s:{0}", "s:{1}"},
		},
		{events.Options{Kind: events.KindList, Key: "l"}, []string{"l"}, []string{"{l}:stream"}},
		{events.Options{Kind: events.KindList, Key: "a{b}c"}, []string{"a{b}c"}, []string{"a{b}c:stream"}},
		{events.Options{Kind: events.KindList, Key: "x{y"}, []string{"x{y"}, []string{"{x{y}:stream"}},
		{
			events.Options{Kind: events.KindList, Key: "l", Partitions: 2},
			[]string{"l:{0}", "l:{1}"},
			[]string{"l:{0}:stream", "l:{1}:stream"},
		},
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

// A read waits for the first entry, whichever protocol is spoken, and for no longer than the client does.
func TestReadWaits(t *testing.T) {
	t.Parallel()
	const readTimeout = "5s"
	for kind, patience := range map[string]time.Duration{
		events.KindStream: 6 * time.Second, // what Redis is told is less
		events.KindList:   10 * time.Millisecond,
	} {
		for _, protocol := range []string{"2", "3"} {
			t.Run(kind+" by RESP"+protocol, func(t *testing.T) {
				t.Parallel()
				client := connect(t, testenv.Redis(t)+"?read_timeout="+readTimeout+"&protocol="+protocol)
				source := open(t, client, events.Options{Kind: kind, Key: "k", PushSide: events.PushRight})[0]
				var batch events.Batch
				n, err := source.Read(t.Context(), &batch, 10, patience)
				require.NoError(t, err)
				assert.Zero(t, n)

				push := []any{"XADD", "k", "*", "event", "1:2:LIKE"}
				if kind == events.KindList {
					push = []any{"RPUSH", "k", "1:2:LIKE"}
				}
				for range 2 {
					pushed := make(chan error, 1)
					go func() { pushed <- client.Do(context.Background(), push...).Err() }()
					for batch.Entries = 0; batch.Entries == 0; { // it may wait for less than it may
						_, err = source.Read(t.Context(), &batch, 10, 10*time.Second)
						require.NoError(t, err)
					}
					require.NoError(t, <-pushed)
				}
				require.Len(t, batch.Events, 2)
				assert.True(t, batch.Events[1].Position.After(batch.Events[0].Position))
				assert.EqualValues(t, 2, batch.Events[1].BookID)
			})
		}
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
		_, err := source.Read(ctx, &events.Batch{}, 10, 0)
		require.ErrorContains(t, err, "WRONGTYPE")
	}
	n, err := client.LLen(ctx, "l").Result()
	require.NoError(t, err)
	assert.EqualValues(t, 1, n, "the list is as it was")
}
