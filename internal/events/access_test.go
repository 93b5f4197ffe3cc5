package events_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/config"
	"aggregator/internal/events"
	"aggregator/internal/testenv"
)

// A user of config/redis.acl may use the commands that we use, those inside our scripts
// among them, and no others.
func TestUsersMayWhatWeDoAndNoMore(t *testing.T) {
	for user, options := range map[string]events.Options{
		"aggregator_stream": {Kind: events.KindStream, Key: "book-like-events", Partitions: 2},
		"aggregator_list":   {Kind: events.KindList, Key: "BookLikeEventList", PushSide: events.PushLeft, Partitions: 2},
	} {
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			url := strings.TrimSuffix(testenv.NewRedis(t, testenv.AppendOnly()).URL(), "0") + "1"
			admin, client := connect(t, url), connectPlainly(t, testenv.RedisAs(t, url, user, options.Key))
			single := options
			single.Partitions = 1
			sources := append(open(t, client, options), open(t, client, single)...)
			for _, source := range sources {
				pushOne(t, admin, source.Key(), options.Kind)
			}
			require.NoError(t, admin.ConfigResetStat(t.Context()).Err())

			require.NoError(t, client.Ping(t.Context()).Err())
			for _, source := range sources {
				useAll(t, source)
			}

			// Two are for the client of a cluster, which internal/faults runs, two for aggregator doctor.
			assert.ElementsMatch(t, allowed(user), append(used(t, admin), "cluster|slots", "asking", "info", "pttl"))
		})
	}
}

func pushOne(t *testing.T, client *redis.Client, key, kind string) {
	t.Helper()
	if kind == events.KindList {
		require.NoError(t, client.LPush(t.Context(), key, "1:2:LIKE").Err())
		return
	}
	require.NoError(t, client.XAdd(t.Context(), &redis.XAddArgs{Stream: key, Values: []any{"event", "1:2:LIKE"}}).Err())
}

// useAll does with a source of one event all that the daemon ever does.
func useAll(t *testing.T, source *events.Source) {
	t.Helper()
	ctx := t.Context()
	waiting, err := source.Waiting(ctx, events.Position{}, 0)
	require.NoError(t, err)
	require.EqualValues(t, 1, waiting)
	n, err := source.Peek().Read(ctx, &events.Batch{}, 10)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	_, err = source.Rewrite(ctx)
	require.NoError(t, err)
	var batch events.Batch
	n, err = source.Read(ctx, &batch, 10, time.Second)
	require.NoError(t, err)
	require.Equal(t, 1, n)

	ahead := events.Position{Ms: batch.Last.Ms + 1000}
	raised, err := source.Raise(ctx, ahead, 1)
	require.NoError(t, err)
	require.NotEmpty(t, raised.Kept)
	for _, settled := range []events.Position{batch.Last, ahead} { // makes the bookmark, and moves it
		_, err = source.Trim(ctx, settled, 1, time.Hour, events.Seen{})
		require.NoError(t, err)
	}
	state, err := source.Inspect(ctx)
	require.NoError(t, err)
	require.Equal(t, ahead, state.Bookmark.Position)

	_, err = source.Rewind(ctx)
	require.NoError(t, err)
	upTo, _, err := source.Held(ctx, ahead)
	require.NoError(t, err)
	require.EqualValues(t, 1, upTo)
}

// connectPlainly is as the daemon connects: it says nothing about itself.
func connectPlainly(t *testing.T, url string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(url)
	require.NoError(t, err)
	options.MaxRetries = -1
	options.DisableIdentity = true
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// allowed are the commands that config/redis.acl names for a user.
func allowed(user string) []string {
	var names []string
	for line := range strings.Lines(config.ACL()) {
		words := strings.Fields(line)
		if words[1] != user {
			continue
		}
		for _, rule := range words[2:] {
			if name, ok := strings.CutPrefix(rule, "+"); ok {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// used are the commands that the server has run, but for those of the administrator and
// those that need no permission.
func used(t *testing.T, admin *redis.Client) []string {
	t.Helper()
	info, err := admin.InfoMap(context.WithoutCancel(t.Context()), "commandstats").Result()
	require.NoError(t, err)
	names := map[string]bool{}
	for name := range info["Commandstats"] {
		names[strings.TrimPrefix(name, "cmdstat_")] = true
	}
	for _, name := range []string{"hello", "auth", "info", "config|resetstat"} {
		delete(names, name)
	}
	return slices.Sorted(maps.Keys(names))
}
