package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/aggregator"
	"aggregator/internal/cluster"
	"aggregator/internal/events"
	"aggregator/internal/ledger"
	"aggregator/internal/postgres"
	"aggregator/internal/runs"
	"aggregator/internal/scores"
	"aggregator/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// loop is one that does what the test says.
type loop struct {
	mu  sync.Mutex
	all []aggregator.Status
}

func (l *loop) Status() []aggregator.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]aggregator.Status(nil), l.all...)
}

func (l *loop) Stats() aggregator.Stats { return aggregator.Stats{Retried: 4} }

func (l *loop) Caches() []scores.CacheUse {
	return []scores.CacheUse{{Name: "books", Entries: 2, Capacity: 10, Hits: 5, Misses: 3}, {Name: "profiles"}}
}

func (l *loop) set(state aggregator.State, reason string, turned time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all[0].State, l.all[0].Reason, l.all[0].LastTurn = state, reason, turned
}

type bundle struct {
	*Server
	loop     *loop
	database *pgxpool.Pool // the superuser's
	server   *testenv.RedisServer
	client   *redis.Client // the administrator's
	log      *bytes.Buffer
}

// setup makes a server with the daemon's rights, for two partitions of which only the
// first has ever been drained.
func setup(t *testing.T) *bundle {
	t.Helper()
	t.Parallel()
	database := testenv.Database(t)
	b := &bundle{loop: &loop{}, server: testenv.NewRedis(t), log: &bytes.Buffer{}}
	b.database = pool(t, database)
	b.client = client(t, b.server.URL())
	own := client(t, testenv.RedisAs(t, b.server.URL(), "aggregator_stream", "likes"))
	sources, err := events.Sources(
		own, events.Options{Kind: events.KindStream, Key: "likes", Partitions: 2, Weights: map[string]float64{"LIKE": 2}})
	require.NoError(t, err)
	for _, source := range sources {
		b.loop.all = append(b.loop.all, aggregator.Status{
			Source: source, State: aggregator.Working, Since: time.Now(), LastTurn: time.Now(),
			Stats: aggregator.Stats{Counts: runs.Counts{Applied: 3}}, Causes: map[string]int64{"timeout": 2},
		})
	}
	_, err = ledger.Create(t.Context(), b.database, sources[0].Name(), events.Position{}, 0)
	require.NoError(t, err)
	b.Server = New(Options{
		Loop: b.loop, Pool: pool(t, testenv.As(t, database, "aggregator_daemon")), Redis: own, Sources: sources,
		Leases: func() (cluster.Figures, bool) {
			return cluster.Figures{
				Held: 2, Target: 3, Members: 4, Moves: map[string]int64{cluster.MoveFree: 5},
				Unowned: []uint64{1, 2}, UnownedCount: 3, UnownedSeconds: 1.5,
			}, true
		},
		Version: "v1", Reloaded: func() bool { return true },
		Due:      func() map[string]time.Time { return map[string]time.Time{"purge": time.Unix(1.8e9, 0)} },
		Log:      slog.New(slog.NewTextHandler(b.log, nil)),
		LoopPool: b.database, LoopRedis: b.client, Meter: NewMeter(),
	})
	return b
}

func pool(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: url, MaxConns: 2})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func client(t *testing.T, url string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(url)
	require.NoError(t, err)
	options.MaxRetries, options.ContextTimeoutEnabled = -1, true
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func (b *bundle) get(t *testing.T, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	b.http.Handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestHealthz(t *testing.T) {
	b := setup(t)
	minuteAgo := time.Now().Add(-61 * time.Second)
	for name, tc := range map[string]struct {
		state  aggregator.State
		turned time.Time
		want   int
	}{
		"working":     {aggregator.Working, time.Now(), 200},
		"backing off": {aggregator.BackingOff, time.Now().Add(-45 * time.Second), 200},
		"hanging":     {aggregator.Working, minuteAgo, 503},
		"halted":      {aggregator.Halted, minuteAgo, 200}, // the process ends by itself
		"stopped":     {aggregator.Stopped, minuteAgo, 200},
	} {
		b.loop.set(tc.state, "", tc.turned)
		code, body := b.get(t, "/healthz")
		assert.Equal(t, tc.want, code, "%s: %s", name, body)
	}
	b.loop.set(aggregator.Working, "", minuteAgo)
	_, body := b.get(t, "/healthz")
	assert.Equal(t, "the loop of likes:{0} (working) has not turned for 1m1s\n", body)
	b.loop.all[0].Rest = time.Minute
	code, _ := b.get(t, "/healthz")
	assert.Equal(t, 200, code, "chunk.max_wait is rest, not death")
}

func (b *bundle) ready(t *testing.T) (int, readiness) {
	t.Helper()
	b.survey.at = time.Time{} // ask anew
	code, body := b.get(t, "/readyz")
	var answer readiness
	require.NoError(t, json.Unmarshal([]byte(body), &answer), body)
	require.Equal(t, answer.Ready, code == 200)
	return code, answer
}

func TestReadyzFollowsTheLoop(t *testing.T) {
	b := setup(t)
	for state, want := range map[aggregator.State]int{
		aggregator.Starting: 503, aggregator.Working: 200, aggregator.StandingBy: 200,
		aggregator.BackingOff: 503, aggregator.Halted: 503, aggregator.Stopped: 503,
	} {
		b.loop.set(state, "for this reason", time.Now())
		code, answer := b.ready(t)
		assert.Equal(t, want, code, state)
		assert.Equal(t, state, answer.Sources["likes:{0}"].State)
		assert.Equal(t, "for this reason", answer.Sources["likes:{0}"].Reason)
		assert.Equal(t, want == 200, answer.Sources["likes:{0}"].OK)
		assert.True(t, answer.Sources["likes:{1}"].OK)
	}
}

func TestReadyzFollowsTheServers(t *testing.T) {
	b := setup(t)
	ok := check{OK: true}
	_, answer := b.ready(t)
	assert.Equal(t, map[string]check{"redis": ok, "postgres": ok, "schema": ok, "incidents": ok}, answer.Checks)

	_, err := b.database.Exec(t.Context(), `ALTER TABLE aggregator.incident RENAME TO other`)
	require.NoError(t, err)
	code, answer := b.ready(t)
	assert.Equal(t, 503, code, "whether an incident is open is not known")
	assert.Contains(t, answer.Checks["incidents"].Reason, `unknown: `)
	assert.Contains(t, answer.Checks["incidents"].Reason, `relation "aggregator.incident" does not exist`)
	_, err = b.database.Exec(t.Context(), `ALTER TABLE aggregator.other RENAME TO incident`)
	require.NoError(t, err)

	_, err = b.database.Exec(
		t.Context(), `INSERT INTO aggregator.schema_migrations (version_id, is_applied) VALUES (1000, true);
		INSERT INTO aggregator.schema_compatibility VALUES (1000, 1)`)
	require.NoError(t, err)
	code, answer = b.ready(t)
	assert.Equal(t, 200, code)
	assert.True(t, answer.Checks["schema"].OK)
	assert.Contains(t, answer.Checks["schema"].Reason, "version 1000, this program was built for ")
	body := b.scrape(t)
	assert.Contains(t, body, "\naggregator_schema_version 1000\n")
	assert.NotContains(t, body, "\naggregator_schema_known_version 1000\n")

	_, err = b.database.Exec(
		t.Context(), `UPDATE aggregator.schema_compatibility SET works_with = 1000 WHERE version = 1000`)
	require.NoError(t, err)
	code, answer = b.ready(t)
	assert.Equal(t, 503, code)
	assert.Equal(t, ok, answer.Checks["postgres"])
	assert.Contains(t, answer.Checks["schema"].Reason, "install a newer aggregator")
	assert.Contains(t, b.scrape(t), "\naggregator_schema_version 1000\n")

	// One that hangs is told from one that is gone, and the other server is asked all the same.
	require.NoError(t, syscall.Kill(b.server.PID(), syscall.SIGSTOP))
	began := time.Now()
	_, answer = b.ready(t)
	assert.Equal(t, check{Reason: "no answer within 3s"}, answer.Checks["redis"])
	assert.Equal(t, ok, answer.Checks["postgres"])
	assert.Less(t, time.Since(began), 10*time.Second)
	require.NoError(t, syscall.Kill(b.server.PID(), syscall.SIGCONT))
	require.NoError(t, b.server.Kill())
	_, answer = b.ready(t)
	assert.Contains(t, answer.Checks["redis"].Reason, "refused")

	b.Pool.Close()
	_, answer = b.ready(t)
	assert.False(t, answer.Checks["postgres"].OK)
	assert.False(t, answer.Checks["schema"].OK)
	assert.NotContains(t, b.scrape(t), "\naggregator_schema_version", "what is not known is not shown")
}

// A key of another type is an error, and hides nothing of the other sources.
func TestOneBrokenSource(t *testing.T) {
	b := setup(t)
	require.NoError(t, b.client.Set(t.Context(), b.Sources[0].Key(), "a text", 0).Err())
	entry := &redis.XAddArgs{Stream: b.Sources[1].Key(), Values: []any{"event", "1:1:LIKE"}}
	require.NoError(t, b.client.XAdd(t.Context(), entry).Err())
	survey := b.look(t.Context(), 0)
	require.ErrorContains(t, survey.Err, "WRONGTYPE")
	assert.Nil(t, survey.Sources[0].Waiting)
	require.NotNil(t, survey.Sources[1].Waiting)
	assert.EqualValues(t, 1, *survey.Sources[1].Waiting)
	found, err := Progress(t.Context(), b.Pool, b.Sources)
	require.ErrorContains(t, err, "WRONGTYPE")
	assert.NotNil(t, found[1].Waiting)
}

// What does not balance is logged once, and again when it changes or is mended.
func TestBooksAreAudited(t *testing.T) {
	b := setup(t)
	spoil := func(base int) {
		_, err := b.database.Exec(t.Context(), `UPDATE aggregator.checkpoint SET base = $1`, base)
		require.NoError(t, err)
	}
	audit := func() string {
		b.log.Reset()
		b.books.audit(t.Context(), b.Server)
		return b.log.String()
	}
	assert.Empty(t, audit())
	spoil(-2)
	assert.Contains(t, audit(), "level=ERROR msg=\"reconciliation failed: 2 lost")
	assert.Empty(t, audit())
	assert.Contains(t, b.scrape(t), `aggregator_ledger_difference_events{source="likes:{0}"} -2`)
	spoil(-3)
	assert.Contains(t, audit(), "difference=-3")
	spoil(0)
	assert.Contains(t, audit(), "reconciled again")

	// Who stands by leaves it to who works.
	spoil(-1)
	b.loop.set(aggregator.StandingBy, "", time.Now())
	assert.Empty(t, audit())
	assert.NotContains(t, b.scrape(t), "ledger_difference_events{")
}

// Auditing takes little of the time, however many marks there are.
func TestPauseAfterAnAudit(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		0:                      5 * time.Second,
		20 * time.Millisecond:  5 * time.Second,
		100 * time.Millisecond: 10 * time.Second,
		time.Second:            30 * time.Second,
		time.Hour:              30 * time.Second,
	} {
		assert.Equal(t, want, pauseAfter(took), took)
	}
}

func TestServe(t *testing.T) {
	b := setup(t)
	listener, err := Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	_, err = Listen(t.Context(), listener.Addr().String())
	require.EqualError(t, err, "bind: address already in use")

	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- b.Serve(ctx, listener) }()
	request, err := http.NewRequestWithContext(
		t.Context(), http.MethodGet, "http://"+listener.Addr().String()+"/version", nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	assert.Contains(t, string(body), `"version": "v1"`)
	request, err = http.NewRequestWithContext(
		t.Context(), http.MethodPost, "http://"+listener.Addr().String()+"/version", nil)
	require.NoError(t, err)
	posted, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	posted.Body.Close()
	assert.Equal(t, http.StatusMethodNotAllowed, posted.StatusCode)
	cancel()
	require.NoError(t, <-served)
}

func TestRecent(t *testing.T) {
	var r recent[int]
	n := 0
	read := func() int { n++; return n }
	assert.Equal(t, 1, r.get(time.Hour, read))
	assert.Equal(t, 1, r.get(time.Hour, read))
	assert.Equal(t, 2, r.get(-time.Hour, read))
}

func TestCheckedSaysWhy(t *testing.T) {
	assert.Equal(t, check{OK: true}, checked(nil))
	assert.Equal(t, check{Reason: "x"}, checked(errors.New("x")))
	assert.Equal(t, check{Reason: "no answer within 3s"}, checked(context.DeadlineExceeded))
}
