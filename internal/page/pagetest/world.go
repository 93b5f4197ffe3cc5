// Package pagetest starts a service whose page has something to show, for tests.
package pagetest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"aggregator/config"
	"aggregator/internal/aggregator"
	"aggregator/internal/postgres"
	"aggregator/internal/service"
	"aggregator/internal/testenv"
)

// Profiles that a World has.
const (
	Child    = 1                   // became ISFJ from ENTP, by two drains
	Empty    = 2                   // has no history
	Greatest = 9223372036854775807 // is beyond what JavaScript can count to
	Source   = "book-like-events"
)

// The logins that a World has, each with its name as the password.
const (
	Operator = "anna"
	Viewer   = "bob"
)

// World is a service with a page, its servers, and what has happened.
type World struct {
	URL      string // of the page, with a slash at the end
	DB       *pgx.Conn
	Redis    *redis.Client
	Server   *testenv.RedisServer
	Postgres *testenv.PostgresServer // nil unless it was asked for
	Config   config.Config

	t       testing.TB
	service *service.Service
	stop    func()
	mu      sync.Mutex
	log     strings.Builder
}

// Option changes a World.
type Option func(*World)

// OwnPostgres gives it a PostgreSQL that a test may stop.
func OwnPostgres(w *World) { w.Postgres = testenv.NewPostgres(w.t) }

// Set changes the settings.
func Set(change func(*config.Config)) Option { return func(w *World) { change(&w.Config) } }

// Start starts a World; it ends with the test.
func Start(t testing.TB, options ...Option) *World {
	t.Helper()
	w := &World{t: t, Config: config.Default(), Server: testenv.NewRedis(t)}
	w.Config.Redis.URL = config.URL(w.Server.URL())
	w.Config.HTTP.Addr = "127.0.0.1:0"
	w.Config.Journal.Keep = time.Hour
	w.Config.Chunk.MaxWait = 10 * time.Millisecond
	w.Config.HTTP.UsersFile = filepath.Join(t.TempDir(), "users.yaml")
	users := fmt.Sprintf("operators: {%q: %q}\nviewers: {%q: %q}\n", Operator, hash(t, Operator), Viewer, hash(t, Viewer))
	require.NoError(t, os.WriteFile(w.Config.HTTP.UsersFile, []byte(users), 0o600))
	for _, option := range options {
		option(w)
	}
	ctx := context.WithoutCancel(t.Context())
	var database string
	var err error
	if w.Postgres == nil {
		database = testenv.Database(t)
	} else {
		database, err = w.Postgres.CreateDatabase(ctx, "app", "")
		require.NoError(t, err)
		require.NoError(t, postgres.Migrate(ctx, postgres.Options{URL: database}))
		require.NoError(t, testenv.Grant(ctx, database))
	}
	w.DB, err = pgx.Connect(ctx, database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.DB.Close(ctx) })
	w.Config.Postgres.URL = config.URL(testenv.As(t, database, "aggregator_daemon"))
	redisOptions, err := redis.ParseURL(w.Server.URL())
	require.NoError(t, err)
	w.Redis = redis.NewClient(redisOptions)
	t.Cleanup(func() { _ = w.Redis.Close() })
	w.fill()
	w.serve()
	return w
}

// hash is what a users file has of a password.
func hash(t testing.TB, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	require.NoError(t, err)
	return string(h)
}

// fill drains what makes the history of Child, and leaves dead letters.
func (w *World) fill() {
	w.t.Helper()
	w.Exec(`INSERT INTO genre (id, name) VALUES (1, 'Fairy tales'), (2, 'Animals'), (3, 'Space');
		INSERT INTO topic (id, name) VALUES (1, '해와 달'), (2, 'قصة'), (3, 'friendship');
		INSERT INTO book (id, title, genre_id) VALUES (1, '<script>alert(1)</script>', 1), (2, '구름빵', 2),
			(3, 'قصة قبل النوم', 3), (4, 'A book that will be deleted', 2);
		INSERT INTO book_topic VALUES (1, 1), (1, 3), (2, 2), (3, 3), (4, 1);
		INSERT INTO book_mbti SELECT b, id FROM mbti, (VALUES (1, 'ENTP'), (2, 'ISFJ'), (3, 'ENTP'), (4, 'ISFJ')) v (b, m)
			WHERE mbti = m;
		INSERT INTO child_profile (id, name) VALUES (1, 'Bori'), (2, 'Nari'), (9223372036854775807, 'Last')`)
	for _, events := range [][]string{
		{"1:1:LIKE", "1:3:LIKE", "9223372036854775807:2:LIKE"},
		{"1:2:LIKE", "1:4:LIKE", "1:2:LIKE", "1:2:LIKE"},
		{"7:1:LIKE", "7:2:LIKE", "1:77:LIKE", `{"profile": 1, "book": 2, "action": "LIKE"}`, "junk <b>", "1:1:EAT"},
	} {
		w.Push(events...)
		w.drain()
	}
	w.Exec(`DELETE FROM book_topic WHERE book_id = 4; DELETE FROM book_mbti WHERE book_id = 4;
		DELETE FROM book WHERE id = 4`)
}

func (w *World) instance() *service.Instance {
	return service.New(w.Config, slog.New(slog.NewTextHandler(w, nil)), "v1.2.3")
}

func (w *World) drain() {
	w.t.Helper()
	instance := w.instance()
	engine, err := instance.OpenEngine(w.t.Context(), nil)
	require.NoError(w.t, err)
	defer engine.Close()
	_, err = engine.Drain(w.t.Context(), aggregator.Limits{})
	require.NoError(w.t, err)
}

func (w *World) serve() {
	w.t.Helper()
	s, err := service.Open(w.t.Context(), w.instance(), service.Options{Next: w.settings})
	require.NoError(w.t, err)
	w.service = s
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Run(ctx)
	}()
	w.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
		s.Close()
	})
	w.t.Cleanup(func() {
		w.stop()
		if w.t.Failed() {
			w.t.Logf("the service:\n%s", w.Log())
		}
	})
	w.URL = fmt.Sprintf("http://%s/", s.Addr())
	require.Eventually(w.t, func() bool {
		answer, err := http.Get(w.URL + "readyz") //nolint:noctx // bounded by Eventually
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		_, _ = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode == http.StatusOK
	}, time.Minute, 10*time.Millisecond)
}

func (w *World) settings() (config.Config, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Config, nil
}

// Reload changes the settings, which are in force soon.
func (w *World) Reload(change func(*config.Config)) {
	w.mu.Lock()
	change(&w.Config)
	w.mu.Unlock()
	w.service.Reload()
}

// Stop ends the service, as SIGTERM does.
func (w *World) Stop() { w.stop() }

// Exec runs statements as the superuser.
func (w *World) Exec(sql string, args ...any) {
	w.t.Helper()
	_, err := w.DB.Exec(w.t.Context(), sql, args...)
	require.NoError(w.t, err)
}

// Number reads a number.
func (w *World) Number(sql string, args ...any) (n int64) {
	w.t.Helper()
	require.NoError(w.t, w.DB.QueryRow(w.t.Context(), sql, args...).Scan(&n))
	return n
}

// Push adds events to the stream.
func (w *World) Push(events ...string) {
	w.t.Helper()
	for _, event := range events {
		entry := &redis.XAddArgs{Stream: Source, Values: []any{"event", event}}
		require.NoError(w.t, w.Redis.XAdd(w.t.Context(), entry).Err())
	}
}

// Write keeps what the service logs.
func (w *World) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

// Log is what the service has logged.
func (w *World) Log() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}
