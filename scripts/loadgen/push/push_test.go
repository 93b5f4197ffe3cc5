package push

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
	"aggregator/scripts/loadgen/journal"
	"aggregator/scripts/loadgen/workload"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func connect(t *testing.T, url string, change ...func(*redis.Options)) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	require.NoError(t, err)
	o.MaxRetries, o.DialerRetries, o.Protocol, o.DisableIdentity = -1, 1, 2, true
	for _, c := range change {
		c(o)
	}
	db := redis.NewClient(o)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func settings(count int64) workload.Settings {
	s := workload.Defaults()
	s.Count, s.Malformed, s.Unknown, s.Duplicates = count, 0.05, 0.05, 0.05
	return s
}

func events(t *testing.T, s workload.Settings) workload.Source {
	t.Helper()
	source, err := workload.Open(s)
	require.NoError(t, err)
	return source
}

func options() Options {
	return Options{Clients: 2, Pipeline: 100, LateAfter: 10 * time.Millisecond}
}

// entries are the fields of all entries, by how often they occur.
func entries(t *testing.T, db *redis.Client, s workload.Settings) map[string]int {
	t.Helper()
	found := map[string]int{}
	for p, key := range s.Keys() {
		if s.Kind == workload.List {
			texts, err := db.LRange(t.Context(), key, 0, -1).Result()
			require.NoError(t, err)
			for _, text := range texts {
				found[fmt.Sprintf("%d %q", p, []string{"event", text})]++
			}
			continue
		}
		// Not XRange: its map knows no repeated field.
		all, err := db.Do(t.Context(), "xrange", key, "-", "+").Slice()
		require.NoError(t, err)
		for _, entry := range all {
			found[fmt.Sprintf("%d %q", p, entry.([]any)[1])]++
		}
	}
	return found
}

func pushed(t *testing.T, s workload.Settings, keep func(i int64) bool) map[string]int {
	t.Helper()
	want := map[string]int{}
	for source, i := events(t, s), int64(0); i < source.Len(); i++ {
		if e := source.At(i); keep(i) {
			want[fmt.Sprintf("%d %q", e.Partition, e.Fields())]++
		}
	}
	return want
}

func all(int64) bool { return true }

func TestEveryEventArrives(t *testing.T) {
	cases := map[string]func(*workload.Settings){
		"stream":            func(*workload.Settings) {},
		"stream of fields":  func(s *workload.Settings) { s.Wire = workload.WireFields },
		"stream partitions": func(s *workload.Settings) { s.Partitions = 3 },
		"list, left":        func(s *workload.Settings) { s.Kind = workload.List },
		"list, right":       func(s *workload.Settings) { s.Kind, s.PushSide = workload.List, workload.Right },
		"list partitions":   func(s *workload.Settings) { s.Kind, s.Partitions = workload.List, 2 },
	}
	url := testenv.Redis(t)
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			s, db := settings(5_000), connect(t, url)
			require.NoError(t, db.FlushAll(t.Context()).Err())
			change(&s)
			report, err := Push(t.Context(), db, s, events(t, s), options(), nil)
			require.NoError(t, err)
			require.Equal(t, int64(5_000), report.Acknowledged)
			require.Zero(t, report.Unknown+report.NotPushed)
			require.Equal(t, pushed(t, s, all), entries(t, db, s))
		})
	}
}

func TestSidesOfAList(t *testing.T) {
	url := testenv.Redis(t)
	for side, first := range map[string]int64{workload.Left: 99, workload.Right: 0} {
		db, s := connect(t, url), settings(100)
		s.Kind, s.Key, s.PushSide, s.Malformed = workload.List, side, side, 0
		o := options()
		o.Clients = 1
		_, err := Push(t.Context(), db, s, events(t, s), o, nil)
		require.NoError(t, err)
		text, err := db.LIndex(t.Context(), side, 0).Result()
		require.NoError(t, err)
		require.Equal(t, events(t, s).At(first).Text(), text)
	}
}

func TestPayloadsAreWhatRedisSends(t *testing.T) {
	db := connect(t, testenv.Redis(t))
	s := settings(2_000)
	s.Malformed, s.Unknown = 1, 0
	_, err := Push(t.Context(), db, s, events(t, s), options(), nil)
	require.NoError(t, err)
	raw := redis.NewRawCmd(t.Context(), "xrange", s.Keys()[0], "-", "+")
	require.NoError(t, db.Process(t.Context(), raw))
	for source, i := events(t, s), int64(0); i < s.Count; i++ {
		if form, payload := source.At(i).Payload(); form == workload.FormEntry {
			require.True(t, bytes.Contains(raw.Val(), payload), "%q", payload)
		}
	}
}

func TestOpenLoopCountsFromTheIntendedTime(t *testing.T) {
	db, s := connect(t, testenv.Redis(t)), settings(200)
	// The first batch stalls: all those due meanwhile must be seen to be late.
	var stalled atomic.Bool
	db.AddHook(pipelineHook(func(ctx context.Context, next redis.ProcessPipelineHook, cmds []redis.Cmder) error {
		if stalled.CompareAndSwap(false, true) {
			waitUntil(ctx, time.Now().Add(300*time.Millisecond))
		}
		return next(ctx, cmds)
	}))
	o := options()
	o.Clients, o.Rate = 1, 1000
	report, err := Push(t.Context(), db, s, events(t, s), o, nil)
	require.NoError(t, err)
	require.Equal(t, int64(200), report.Acknowledged)
	require.Greater(t, report.Latency.P50, 100.0)
	require.Greater(t, report.Late, int64(150))
	require.InDelta(t, 1000, report.OfferedRate, 0)
}

func TestRateIsKept(t *testing.T) {
	db, s := connect(t, testenv.Redis(t)), settings(600)
	o := options()
	o.Rate = 2000
	report, err := Push(t.Context(), db, s, events(t, s), o, nil)
	require.NoError(t, err)
	require.GreaterOrEqual(t, report.Seconds, 599.0/2000)
}

func TestCancellingLeavesTheRest(t *testing.T) {
	db, s := connect(t, testenv.Redis(t)), settings(100_000)
	ctx, cancel := context.WithCancel(t.Context())
	var batches atomic.Int32
	db.AddHook(pipelineHook(func(ctx context.Context, next redis.ProcessPipelineHook, cmds []redis.Cmder) error {
		if batches.Add(1) == 5 {
			cancel()
		}
		return next(ctx, cmds)
	}))
	report, err := Push(ctx, db, s, events(t, s), options(), nil)
	require.ErrorContains(t, err, "interrupted")
	require.Zero(t, report.Unknown)
	require.Equal(t, s.Count, report.Acknowledged+report.NotPushed)
	require.Equal(t, report.Acknowledged, db.XLen(t.Context(), s.Keys()[0]).Val())
}

func TestWrongTypeEndsThePush(t *testing.T) {
	db, s := connect(t, testenv.Redis(t)), settings(1_000)
	require.NoError(t, db.Set(t.Context(), s.Keys()[0], "text", 0).Err())
	o := options()
	o.ContinueOnError = true // waiting would not help
	report, err := Push(t.Context(), db, s, events(t, s), o, nil)
	require.ErrorContains(t, err, "WRONGTYPE")
	require.Equal(t, int64(1_000), report.NotPushed)
	require.Zero(t, report.Acknowledged+report.Unknown)
}

func TestRefusedEventsArePushedAgain(t *testing.T) {
	url := testenv.Redis(t)
	db, operator, s := connect(t, url), connect(t, url), settings(3_000)
	require.NoError(t, operator.ConfigSet(t.Context(), "maxmemory", "1").Err())
	db.AddHook(pipelineHook(func(ctx context.Context, next redis.ProcessPipelineHook, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if err != nil {
			require.ErrorContains(t, err, "OOM")
			require.NoError(t, operator.ConfigSet(ctx, "maxmemory", "0").Err())
		}
		return err
	}))
	o := options()
	o.ContinueOnError = true
	report, err := Push(t.Context(), db, s, events(t, s), o, nil)
	require.NoError(t, err)
	require.Equal(t, int64(3_000), report.Acknowledged)
	require.Contains(t, report.SurvivedOutage, "OOM")
	require.Equal(t, pushed(t, s, all), entries(t, operator, s))
}

func TestLostAnswersAreUnknown(t *testing.T) {
	url := testenv.Redis(t)
	db := connect(t, url, func(o *redis.Options) { o.Dialer = failing(2_000, -1) })
	s, o := settings(10_000), options()
	path := filepath.Join(t.TempDir(), "acked")
	var err error
	o.Journal, err = journal.Append(path, s)
	require.NoError(t, err)
	report, err := Push(t.Context(), db, s, events(t, s), o, nil)
	require.Error(t, err)
	require.NoError(t, o.Journal.Close())
	require.Positive(t, report.Unknown)
	require.Equal(t, s.Count, report.Acknowledged+report.Unknown+report.NotPushed)
	requireJournalHolds(t, connect(t, url), path, s, report)
}

func TestOutagesLoseAndRepeatNothingKnown(t *testing.T) {
	for name, limits := range map[string][2]int{"cut while reading": {9_000, -1}, "cut while writing": {-1, 40_000}} {
		t.Run(name, func(t *testing.T) {
			url := testenv.Redis(t)
			db := connect(t, url, func(o *redis.Options) { o.Dialer = failing(limits[0], limits[1]) })
			s, o := settings(10_000), options()
			o.ContinueOnError = true
			path := filepath.Join(t.TempDir(), "acked")
			var err error
			o.Journal, err = journal.Append(path, s)
			require.NoError(t, err)
			report, err := Push(t.Context(), db, s, events(t, s), o, nil)
			require.NoError(t, err)
			require.NoError(t, o.Journal.Close())
			require.Positive(t, report.Unknown)
			require.Zero(t, report.NotPushed)
			require.Equal(t, s.Count, report.Acknowledged+report.Unknown)
			requireJournalHolds(t, connect(t, url), path, s, report)
		})
	}
}

func TestUnreachableRedisIsWaitedFor(t *testing.T) {
	server := testenv.NewRedis(t)
	db := connect(t, server.URL())
	require.NoError(t, server.Stop())
	s, o := settings(1_000), options()
	o.ContinueOnError = true
	source := events(t, s)
	type result struct {
		report Report
		err    error
	}
	pushed := make(chan result)
	go func() {
		report, err := Push(t.Context(), db, s, source, o, nil)
		pushed <- result{report, err}
	}()
	require.NoError(t, server.Start(t.Context()))
	r := <-pushed
	require.NoError(t, r.err)
	require.Equal(t, int64(1_000), r.report.Acknowledged)
	require.Zero(t, r.report.Unknown)
}

// requireJournalHolds checks that Redis has every event once that the journal calls
// acknowledged, none that it calls refused, and the unknown ones once or not at all.
func requireJournalHolds(t *testing.T, db *redis.Client, path string, s workload.Settings, report Report) {
	t.Helper()
	runs, err := journal.Read(path)
	require.NoError(t, err)
	require.Len(t, runs, 1)
	count := map[journal.Outcome]int64{}
	is := func(wanted ...journal.Outcome) func(int64) bool {
		return func(i int64) bool {
			o, _ := runs[0].Outcome(i)
			for _, w := range wanted {
				if o == w {
					return true
				}
			}
			return false
		}
	}
	for i := range s.Count {
		o, _ := runs[0].Outcome(i)
		count[o]++
	}
	require.Equal(t, report.Acknowledged, count[journal.Acknowledged])
	require.Equal(t, report.Unknown, count[journal.Unknown])
	have := entries(t, db, s)
	least, most := pushed(t, s, is(journal.Acknowledged)), pushed(t, s, is(journal.Acknowledged, journal.Unknown))
	for event, n := range have {
		if n < least[event] || n > most[event] {
			t.Errorf("%s is there %d times, want %d to %d", event, n, least[event], most[event])
		}
	}
	for event, n := range least {
		if have[event] < n {
			t.Errorf("%s is there %d times, want at least %d", event, have[event], n)
		}
	}
}

func TestNoEventIsSentBeforeItIsDue(t *testing.T) {
	db, s := connect(t, testenv.Redis(t)), settings(20)
	o := options()
	o.Rate, o.Start = 200, time.Now().Add(50*time.Millisecond)
	report, err := Push(t.Context(), db, s, events(t, s), o, nil)
	require.NoError(t, err)
	require.Equal(t, int64(20), report.Acknowledged)
	// Redis puts the time into the ids, which count from 0 within a millisecond.
	all, err := db.XRange(t.Context(), s.Keys()[0], "-", "+").Result()
	require.NoError(t, err)
	for i, entry := range all {
		var ms, seq int64
		_, err := fmt.Sscanf(entry.ID, "%d-%d", &ms, &seq)
		require.NoError(t, err)
		// With i events before it, the entry comes when event i is due, or later. The clock
		// that Redis looks at may be a little old; the time between two events is ample.
		require.GreaterOrEqual(t, ms, Due(o.Start, o.Rate, int64(i)-1).UnixMilli())
	}
}
