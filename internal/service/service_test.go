package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/config"
	"aggregator/internal/aggregator"
	"aggregator/internal/postgres"
	"aggregator/internal/runs"
	"aggregator/internal/testenv"
)

const (
	even = "book-like-events:{0}" // of profiles with an even id
	odd  = "book-like-events:{1}"
)

// two starts two services in this process, each of which has the lease of one of two sources.
func two(t *testing.T) (w *world, a, b *running) {
	t.Helper()
	w = newWorld(t)
	w.cfg.Source.Partitions = 2
	w.cfg.Lease.TTL = 2 * time.Second
	first, firstLog := w.instance()
	second, secondLog := w.instance()
	require.NotEqual(t, first.Name(), second.Name())
	w.exec(`INSERT INTO aggregator.lease VALUES ($1, $2, now(), now() + interval '1 minute')`, odd, second.Name())
	a, b = w.open(first, firstLog), w.open(second, secondLog)
	a.start()
	w.eventually(func() bool { return leased(a, even) })
	b.start()
	w.eventually(func() bool { return leased(b, odd) })
	require.False(t, leased(a, odd))
	require.False(t, leased(b, even))
	return w, a, b
}

// leased says whether a service has the lease of a source.
func leased(r *running, source string) bool {
	for _, s := range r.Status() {
		if s.Source.Name() == source {
			return s.Leased
		}
	}
	return false
}

// Two services in one process drain side by side. When one is stopped, the other takes its source
// over, and each event counts once.
func TestTwoServicesInOneProcess(t *testing.T) {
	w, a, b := two(t)
	for range 50 {
		w.like(even, 2, 4)
		w.like(odd, 1, 3, 5)
	}
	w.eventually(func() bool { return a.Stats().Read == 100 && b.Stats().Read == 150 })
	require.EqualValues(t, 100, a.Stats().Applied)
	require.EqualValues(t, 150, b.Stats().Applied)

	a.stop()
	require.Contains(t, a.log.String(), "msg=stopped read=100 applied=100")
	w.like(even, 2)
	w.like(odd, 1)
	w.eventually(func() bool { return b.Stats().Read == 152 })
	require.True(t, leased(b, even))
	require.True(t, leased(b, odd))
	for profile, want := range map[int]int64{1: 102, 2: 102, 3: 100, 4: 100, 5: 100, 6: 0} {
		require.Equal(t, want, w.score(profile), "profile %d", profile)
	}

	b.stop()
	var read []int64
	for _, r := range w.runs() {
		require.Equal(t, runs.KindService, r.Kind)
		require.Equal(t, runs.Stopped, r.Outcome)
		read = append(read, r.Read)
	}
	require.ElementsMatch(t, []int64{100, 152}, read)
	require.Zero(t, w.number(`SELECT count(*) FROM aggregator.lease`), "each has given its leases up")
}

func (w *world) runs() []runs.Run {
	w.t.Helper()
	instance, _ := w.instance()
	pool, err := instance.OpenPostgres(w.t.Context(), 1)
	require.NoError(w.t, err)
	defer pool.Close()
	all, err := runs.Latest(w.t.Context(), pool, "", 100)
	require.NoError(w.t, err)
	return all
}

// One reloads, also with wrong settings, while the other runs: that one does not notice.
func TestOneReloadsWhileAnotherRuns(t *testing.T) {
	w, a, b := two(t)
	w.like(even, 2)
	w.like(odd, 1)
	w.eventually(func() bool { return w.score(1) == 2 && w.score(2) == 2 })

	heavier := w.cfg
	heavier.Events.Weights = maps.Clone(w.cfg.Events.Weights)
	heavier.Events.Weights["LIKE"] = 10
	heavier.Log.Level = "debug"
	heavier.Apply.Workers++ // which needs a restart
	a.read(heavier, nil, `msg="reloaded the settings" applied="[events.weights log.level]" need_restart=[apply.workers]`)
	require.Equal(t, slog.LevelDebug, a.log.level.Level())
	require.Equal(t, slog.LevelInfo, b.log.level.Level())
	w.like(even, 2)
	w.like(odd, 1)
	w.eventually(func() bool { return w.score(1) == 4 && w.score(2) == 12 })

	a.read(config.Config{}, fmt.Errorf("nonsense: %w", config.ErrInvalid),
		`msg="reload failed: the settings are invalid; keeping the current ones" error="nonsense: invalid configuration"`)
	require.False(t, a.reloaded.Load())
	require.True(t, b.reloaded.Load())
	w.like(even, 2)
	w.like(odd, 1)
	w.eventually(func() bool { return w.score(1) == 6 && w.score(2) == 22 })

	a.read(heavier, nil, `msg="reloaded the settings" applied=[] need_restart=[apply.workers]`)
	require.True(t, a.reloaded.Load())
	// What a service says of itself begins again with a reload that makes another engine; its record does not.
	w.eventually(func() bool { return a.Stats().Applied == 2 && a.counts().Applied == 3 && b.Stats().Applied == 3 })
	require.NotContains(t, b.log.String(), "reload")
	a.stop()
	b.stop()
	for _, r := range w.runs() {
		require.EqualValues(t, 3, r.Read)
	}
}

// A reload that is wanted before Run, or twice, is done once; without anything to read it fails.
func TestReloadIsNotLost(t *testing.T) {
	w := newWorld(t)
	r := w.open(w.instance())
	r.options.Next = nil
	r.Reload()
	r.Reload()
	r.start()
	w.eventually(func() bool { return r.log.times("reload failed") == 1 })
	w.like("book-like-events", 1)
	w.eventually(func() bool { return w.score(1) == 2 })
	r.stop()
	require.Equal(t, 1, r.log.times("reload failed"))
}

// A reload while ctx ends does not keep the service from ending.
func TestStopDuringReload(t *testing.T) {
	w := newWorld(t)
	r := w.open(w.instance())
	reading, goOn := make(chan struct{}), make(chan struct{})
	r.next = func() (config.Config, error) {
		close(reading)
		<-goOn
		other := w.cfg
		other.Chunk.MaxEvents--
		return other, nil
	}
	r.start()
	r.Reload()
	<-reading
	r.end()
	close(goOn)
	r.requireEnd(require.NoError)
	require.Contains(t, r.log.String(), "msg=stopped")
}

// A source that halts ends the service, with what is wrong.
func TestServiceEndsWhenASourceHalts(t *testing.T) {
	w := newWorld(t)
	r := w.open(w.instance())
	w.exec(`ALTER TABLE genre_score RENAME TO away`)
	w.like("book-like-events", 1)
	r.start()
	r.requireEnd(func(t require.TestingT, err error, _ ...any) {
		require.ErrorContains(t, err, "source book-like-events halted: ")
		require.ErrorContains(t, err, "genre_score")
	})
	require.Equal(t, aggregator.Halted, r.Status()[0].State)
	require.Equal(t, runs.Failed, w.runs()[0].Outcome)
}

// Between its drains a service that has a schedule is idle; it drains when its clock says so.
func TestServiceDrainsBySchedule(t *testing.T) {
	w := newWorld(t)
	w.cfg.Schedule.Drain, w.cfg.Schedule.TimeZone = "0 3 * * *", "UTC"
	r := w.open(w.instance())
	now, waits, goOn := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC), make(chan time.Time), make(chan time.Time)
	r.clock = clock{
		now: func() time.Time { return now },
		wait: func(ctx context.Context, until time.Time) bool {
			select {
			case <-ctx.Done():
				return false
			case waits <- until:
			}
			select {
			case <-ctx.Done():
				return false
			case now = <-goOn:
				return true
			}
		},
	}
	w.like("book-like-events", 1)
	r.start()
	due := time.Date(2026, 11, 27, 3, 0, 0, 0, time.UTC)
	require.Equal(t, due, (<-waits).UTC())
	require.Zero(t, w.score(1))
	status := r.Status()[0]
	require.Equal(t, aggregator.Resting, status.State)
	require.Equal(t, "the next drain is due at 2026-11-27T03:00:00Z", status.Reason)
	require.Equal(t, due, r.due.all()[runs.KindDrain].UTC())

	goOn <- due
	require.Equal(t, due.AddDate(0, 0, 1), (<-waits).UTC())
	require.EqualValues(t, 2, w.score(1))
	r.stop()
	require.Empty(t, r.due.all())
	require.Zero(t, r.counts().Read, "what has a record of its own does not count twice")
	all := w.runs()
	require.Len(t, all, 2)
	drain := all[slices.IndexFunc(all, func(r runs.Run) bool { return r.Kind == runs.KindDrain })]
	require.EqualValues(t, 1, drain.Read)
	require.True(t, drain.Due.Equal(due))
}

// A job that comes due is done beside the drain, by the settings.
func TestServiceDoesJobs(t *testing.T) {
	w := newWorld(t)
	w.cfg.Schedule.SearchText = "@hourly"
	instance, log := w.instance()
	r := w.open(instance, log)
	w.exec(
		`INSERT INTO aggregator.run (key, kind, host, version, started_at, seen_at, finished_at, outcome, read, applied, dead,
			profiles, chunks)
		VALUES ('k', 'search_text', 'h', 'v', now() - interval '2 days', now(), now(), 'done', 0, 0, 0, 0, 0)`)
	r.start()
	w.like("book-like-events", 1)
	w.eventually(func() bool {
		return w.score(1) == 2 && w.number(`SELECT count(*) FROM book WHERE search_text = 'b'`) == 1
	})
	w.eventually(func() bool { return r.due.all()[KindSearchText].After(time.Now()) })
	r.stop()
}

// What a service cannot be opened for is an error that says which server it is. Nothing stays open.
func TestOpenFails(t *testing.T) {
	w := newWorld(t)
	for name, tc := range map[string]struct {
		change func(*config.Config)
		want   error
	}{
		"no PostgreSQL": {func(c *config.Config) { c.Postgres.URL = "postgres://127.0.0.1:1/x" }, postgres.ErrUnreachable},
		"no Redis":      {func(c *config.Config) { c.Redis.URL = "redis://127.0.0.1:1" }, ErrRedisUnreachable},
		"no schema": {
			func(c *config.Config) { c.Postgres.URL = config.URL(testenv.EmptyDatabase(t)) },
			postgres.ErrSchema,
		},
		"a wrong URL": {func(c *config.Config) { c.Redis.URL = "nowhere" }, config.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := w.cfg
			cfg.HTTP.Addr = testenv.FreeAddress(t)
			tc.change(&cfg)
			instance := New(cfg, testLog(t), "v")
			_, err := Open(t.Context(), instance, Options{})
			require.ErrorIs(t, err, tc.want)
			listener, err := instance.listen(t.Context())
			require.NoError(t, err, "it has not given the address back")
			require.NoError(t, listener.Close())
		})
	}
}

// It answers health checks from Open until Close, which also shows that a reload failed.
func TestServiceAnswers(t *testing.T) {
	w := newWorld(t)
	w.cfg.HTTP.Addr = "127.0.0.1:0"
	r := w.open(w.instance())
	url := "http://" + regexp.MustCompile(`listening http\.addr=(\S+)`).FindStringSubmatch(r.log.String())[1]
	get := func(path string) (string, error) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return string(body), err
	}
	body, err := get("/readyz")
	require.NoError(t, err)
	require.Contains(t, body, `"state": "starting"`)
	r.start()
	w.eventually(func() bool {
		body, err := get("/readyz")
		require.NoError(t, err)
		return regexp.MustCompile(`"ready": true`).MatchString(body)
	})
	r.read(config.Config{}, errors.New("wrong"), "reload failed")
	body, err = get("/metrics")
	require.NoError(t, err)
	require.Contains(t, body, "aggregator_config_last_reload_successful 0\n")
	require.Contains(t, body, `aggregator_build_info{goversion="go`)
	body, err = get("/version")
	require.NoError(t, err)
	require.Contains(t, body, `"version": "v"`)
	r.stop()
	_, err = get("/healthz")
	require.NoError(t, err, "it still answers")
	r.Close()
	_, err = get("/healthz")
	require.Error(t, err)
}
