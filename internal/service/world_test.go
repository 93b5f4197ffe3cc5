package service

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/config"
	"aggregator/internal/testenv"
)

// patience bounds every wait for something that must happen.
const patience = time.Minute

// world is a Redis and a PostgreSQL with profiles 1 to 10, whose one book is worth something to a genre.
type world struct {
	t     *testing.T
	db    *pgx.Conn
	redis *redis.Client
	cfg   config.Config // of instances to come
}

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	database, redisURL := testenv.Database(t), testenv.Redis(t)
	db, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close(context.WithoutCancel(t.Context())) })
	options, err := redis.ParseURL(redisURL)
	require.NoError(t, err)
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	w := &world{t, db, client, config.Default()}
	w.cfg.Postgres.URL = config.URL(testenv.As(t, database, "aggregator_daemon"))
	w.cfg.Redis.URL = config.URL(redisURL)
	w.cfg.HTTP.Addr = ""
	w.exec(`INSERT INTO child_profile (id, name) SELECT i, 'Bori' FROM generate_series(1, 10) i`)
	w.exec(`INSERT INTO genre (id, name) VALUES (1, 'g')`)
	w.exec(`INSERT INTO book (id, title, genre_id) VALUES (1, 'b', 1)`)
	return w
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	_, err := w.db.Exec(w.t.Context(), sql, args...)
	require.NoError(w.t, err)
}

func (w *world) number(sql string, args ...any) (n int64) {
	w.t.Helper()
	require.NoError(w.t, w.db.QueryRow(w.t.Context(), sql, args...).Scan(&n))
	return n
}

// like adds an event for each of the profiles to a stream.
func (w *world) like(stream string, profiles ...int) {
	w.t.Helper()
	for _, profile := range profiles {
		event := fmt.Sprintf("%d:1:LIKE", profile)
		entry := &redis.XAddArgs{Stream: stream, Values: []any{"event", event}}
		require.NoError(w.t, w.redis.XAdd(w.t.Context(), entry).Err())
	}
}

// score is that of a profile for the genre; 0 if there is none.
func (w *world) score(profile int) int64 {
	w.t.Helper()
	return w.number(`SELECT coalesce(sum(score), 0)::bigint FROM genre_score WHERE child_profile_id = $1`, profile)
}

// eventually waits until a condition holds.
func (w *world) eventually(holds func() bool) {
	w.t.Helper()
	require.Eventually(w.t, holds, patience, 10*time.Millisecond)
}

// instance is a new one by the settings of the world, and what it has logged.
func (w *world) instance() (*Instance, *logged) {
	log := &logged{level: &slog.LevelVar{}}
	return New(w.cfg, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: log.level})), "v"), log
}

// logged is a log, and its level.
type logged struct {
	level *slog.LevelVar
	mu    sync.Mutex
	text  strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) times(text string) int { return strings.Count(l.String(), text) }

// running is a service that runs until it is stopped.
type running struct {
	*Service
	t     *testing.T
	log   *logged
	end   context.CancelFunc
	ended chan struct{} // closed when Run has returned
	err   error         // of Run

	mu   sync.Mutex
	next func() (config.Config, error) // what its reloads read
}

// open opens a service of the instance.
func (w *world) open(instance *Instance, log *logged) *running {
	w.t.Helper()
	r := &running{t: w.t, log: log, ended: make(chan struct{})}
	s, err := Open(w.t.Context(), instance, Options{Level: log.level, Next: func() (config.Config, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.next()
	}})
	require.NoError(w.t, err)
	r.Service = s
	return r
}

// start runs it. It is stopped at the end of the test.
func (r *running) start() *running {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	r.end = cancel
	go func() {
		defer close(r.ended)
		r.err = r.Run(ctx)
	}()
	r.t.Cleanup(func() {
		cancel()
		<-r.ended
		r.Close()
		if r.t.Failed() {
			r.t.Logf("%s:\n%s", r.instance.name, r.log)
		}
	})
	return r
}

// stop stops it in order.
func (r *running) stop() {
	r.t.Helper()
	r.end()
	r.requireEnd(require.NoError)
}

// requireEnd waits for its end.
func (r *running) requireEnd(as func(require.TestingT, error, ...any)) {
	r.t.Helper()
	<-r.ended
	as(r.t, r.err)
}

// read reloads, which reads what is given, and waits until the log says what came of it.
func (r *running) read(cfg config.Config, err error, want string) {
	r.t.Helper()
	before := r.log.times(want)
	r.mu.Lock()
	r.next = func() (config.Config, error) { return cfg, err }
	r.mu.Unlock()
	r.Reload()
	require.Eventually(r.t, func() bool { return r.log.times(want) > before }, patience, 10*time.Millisecond, want)
}
