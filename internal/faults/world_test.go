package faults_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// What the database is seeded with. A part of the score rows is left out.
const (
	profiles = 300
	books    = 400
	missing  = 0.05
)

// patience bounds every wait for something that must happen.
const patience = 5 * time.Minute

// source is where events come from.
type source struct {
	kind, side string
	partitions int
}

var (
	stream      = source{"stream", "left", 1}
	listLeft    = source{"list", "left", 1}
	listRight   = source{"list", "right", 1}
	partitioned = source{"stream", "left", 3}
)

func (s source) String() string {
	switch {
	case s.partitions > 1:
		return fmt.Sprintf("%d partitions of a %s", s.partitions, s.kind)
	case s.kind == "list":
		return "list pushed to the " + s.side
	}
	return s.kind
}

// setup says what a world is made of.
type setup struct {
	source
	postgres []testenv.PostgresOption // if any: a server of its own that may be crashed
	redis    []testenv.RedisOption    // beside AppendOnly
	volatile bool                     // Redis keeps nothing by itself
	env      []string                 // of every daemon
	program  string                   // in place of the daemon under test
	topology topology                 // nil: a single Redis
	pooled   bool                     // the daemons reach PostgreSQL through PgBouncer
}

// topology is more than one Redis, for the administrator and for a user.
type topology interface {
	mode() string // as redis.mode
	url() string
	as(user string) string
}

// world is a pair of servers, and all that was pushed to them.
type world struct {
	t           *testing.T
	source      source
	postgres    *testenv.PostgresServer // shared, unless the setup has options for it
	redis       *testenv.RedisServer    // nil in a topology
	redisMode   string
	adminURL    string // of Redis, for who pushes and compares
	database    string // URL
	redisURL    string // of the daemons, as is postgresURL: a proxy may stand before it
	postgresURL string
	client      redis.UniversalClient
	program     string
	env         []string
	dir         string
	journal     string // of what was acknowledged
	pushes      int
	malformed   string // the share of entries that are no events, by chance: without, a checkpoint is moved otherwise
	unordered   bool   // several clients push at the same time
	tables      string // of which kind, as the load generator has it; empty: ours
}

func newWorld(t *testing.T, s setup) *world {
	t.Helper()
	buildPrograms(t)
	if s.source == (source{}) {
		s.source = stream
	}
	w := &world{t: t, source: s.source, env: s.env, dir: t.TempDir(), program: programs.aggregator}
	if s.program != "" {
		w.program = s.program
	}
	w.journal = filepath.Join(w.dir, "acked")
	w.startRedis(s)
	if len(s.postgres) == 0 {
		w.postgres, w.database = sharedDatabase(t)
	} else {
		w.postgres = testenv.NewPostgres(t, s.postgres...)
		w.database = w.postgres.URL("app")
		require.NoError(t, prepare(t.Context(), w.postgres, "app"))
	}
	// The daemons have the rights that they need, and no more.
	w.postgresURL = testenv.As(t, w.database, "aggregator_daemon")
	if s.pooled {
		w.postgresURL = testenv.NewPgBouncer(t, w.database).Before(t, w.postgresURL)
		w.env = append(w.env, "AGGREGATOR_POSTGRES_POOLER=transaction")
	}
	return w
}

// startRedis starts the server, unless the setup has servers of its own.
func (w *world) startRedis(s setup) {
	user := "aggregator_" + w.source.kind
	if s.topology != nil {
		w.redisMode, w.adminURL, w.redisURL = s.topology.mode(), s.topology.url(), s.topology.as(user)
		w.client = dialTopology(w.t, s.topology)
		return
	}
	if !s.volatile {
		s.redis = append([]testenv.RedisOption{testenv.AppendOnly()}, s.redis...)
	}
	w.redis = testenv.NewRedis(w.t, append(s.redis, testenv.Users(""))...)
	w.redisMode, w.adminURL = "standalone", w.redis.URL()
	w.client = dial(w.t, w.adminURL)
	w.redisURL = testenv.RedisAs(w.t, w.adminURL, user, "")
}

// connect opens a session of somebody else's, once PostgreSQL lets anybody in.
func (w *world) connect() *pgx.Conn {
	w.t.Helper()
	var conn *pgx.Conn
	w.until("PostgreSQL lets us in", func() (in bool) {
		var err error
		conn, err = pgx.Connect(w.t.Context(), w.database)
		return err == nil
	})
	w.t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(w.t.Context())) })
	return conn
}

// sql runs statements as the superuser, in a session of its own.
func (w *world) sql(statements ...string) {
	w.t.Helper()
	conn := w.connect()
	for _, statement := range statements {
		_, err := conn.Exec(w.t.Context(), statement)
		require.NoError(w.t, err, statement)
	}
	require.NoError(w.t, conn.Close(w.t.Context()))
}

func dial(t *testing.T, url string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(url)
	require.NoError(t, err)
	options.MaxRetries = -1
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// sharedDatabase is a new database on the shared server.
func sharedDatabase(t *testing.T) (*testenv.PostgresServer, string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // it outlives the test that starts it
	shared.once.Do(func() {
		shared.postgres, shared.err = testenv.StartPostgres(ctx, testenv.Durable())
		if shared.err == nil {
			shared.err = prepare(ctx, shared.postgres, "template")
		}
	})
	require.NoError(t, shared.err)
	shared.cloning.Lock()
	defer shared.cloning.Unlock()
	shared.databases++
	name := fmt.Sprintf("world_%d", shared.databases)
	url, err := shared.postgres.CreateDatabase(ctx, name, "template")
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := shared.postgres.DropDatabase(ctx, name); err != nil {
			t.Errorf("drop database: %v", err)
		}
	})
	return shared.postgres, url
}

// prepare creates a database, migrates and seeds it.
func prepare(ctx context.Context, server *testenv.PostgresServer, name string) error {
	url, err := server.CreateDatabase(ctx, name, "")
	if err != nil {
		return err
	}
	if err := migrateAndSeed(ctx, url); err != nil {
		return err
	}
	return testenv.Grant(ctx, url)
}

// migrateAndSeed migrates and seeds a database.
func migrateAndSeed(ctx context.Context, url string) error {
	migrate := exec.CommandContext(ctx, programs.aggregator, "migrate", "up")
	seed := exec.CommandContext(ctx, programs.loadgen, "seed", "--postgres-url", url,
		"--profiles", strconv.Itoa(profiles), "--books", strconv.Itoa(books), "--missing", fmt.Sprint(missing))
	for _, cmd := range []*exec.Cmd{migrate, seed} {
		cmd.Env = append(hermetic(), "AGGREGATOR_POSTGRES_URL="+url)
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", cmd, err, said)
		}
	}
	return nil
}

// hermetic is an environment that says nothing about servers.
func hermetic() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir(), "TZ=UTC",
		"AGGREGATOR_HTTP_ADDR=",
	}
}

// push pushes events and returns when all are acknowledged. One in a hundred is junk, one
// in fifty unknown; further flags win.
func (w *world) push(events int, flags ...string) {
	w.t.Helper()
	said, err := w.pushing(w.t.Context(), events, flags...).CombinedOutput()
	require.NoError(w.t, err, "%s", said)
}

func (w *world) pushing(ctx context.Context, events int, flags ...string) *exec.Cmd {
	w.pushes++
	if w.malformed == "" {
		w.malformed = []string{"0.01", "0"}[rand.IntN(2)]
		w.t.Log("malformed:", w.malformed)
	}
	args := []string{
		"push", "--redis-url", w.adminURL, "--redis-mode", w.redisMode, "--kind", w.source.kind, "--push-side", w.source.side,
		"--partitions", strconv.Itoa(w.source.partitions), "--profiles", strconv.Itoa(profiles), "--books",
		strconv.Itoa(books),
		"--profile-dist", "zipf", "--malformed", w.malformed, "--unknown", "0.02", "--duplicates", "0.02", "--quiet",
		"--seed", strconv.Itoa(w.pushes), "--acked-file", w.journal, "--clients", "1",
	}
	if events > 0 {
		args = append(args, "--count", strconv.Itoa(events))
	}
	cmd := exec.CommandContext(ctx, programs.loadgen, append(args, flags...)...)
	cmd.Env = hermetic()
	return cmd
}

// report is what loadgen verify says.
type report struct {
	OK             bool  `json:"ok"`
	Pushed         int64 `json:"pushed"`
	UnknownOutcome int64 `json:"unknown_outcome"`
	Applied        int64 `json:"applied"`
	Dead           int64 `json:"dead"`
	Lost           int64 `json:"lost"`
	Doubled        int64 `json:"doubled"`
	HistoryRows    int64 `json:"history_rows"`
	RowsCompared   int64 `json:"rows_compared"`
	Mismatches     int64 `json:"mismatches"`
	Left           []struct {
		Key     string `json:"key"`
		Entries int64  `json:"entries"`
	} `json:"left_in_redis"`

	text string
}

func (r report) String() string {
	return fmt.Sprintf("pushed %d (%d more of unknown outcome), applied %d, dead %d, lost %d, doubled %d, history rows "+
		"%d, rows compared %d, mismatches %d, left %v",
		r.Pushed, r.UnknownOutcome, r.Applied, r.Dead, r.Lost, r.Doubled, r.HistoryRows, r.RowsCompared, r.Mismatches, r.Left)
}

// compare compares what the servers hold with what was acknowledged.
func (w *world) compare(flags ...string) report {
	w.t.Helper()
	args := append([]string{
		"verify", "--redis-url", w.adminURL, "--redis-mode", w.redisMode, "--postgres-url", w.database,
		"--acked-file", w.journal, "--missing", fmt.Sprint(missing), "-o", "json", "--tables", cmp.Or(w.tables, "own"),
	}, flags...)
	cmd := exec.CommandContext(w.t.Context(), programs.loadgen, args...)
	cmd.Env = hermetic()
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	said, err := cmd.Output()
	r := report{text: string(said)}
	if json.Unmarshal(said, &r) != nil {
		w.t.Fatalf("loadgen verify: %v\n%s%s", err, said, &complaints)
	}
	return r
}

// exact fails the test unless every event was applied once or is a dead letter, every row
// is as it must be, and Redis holds nothing.
func (w *world) exact(flags ...string) report {
	w.t.Helper()
	r := w.compare(flags...)
	require.True(w.t, r.OK, "%s", r.text)
	w.t.Logf("%s; %d rows of history in order", r, w.historyInOrder())
	return r
}

// finish drains what is left and compares.
func (w *world) finish(flags ...string) report {
	w.t.Helper()
	w.drain()
	return w.exact(flags...)
}

// count looks into a list before the stream that its elements move to.
func (w *world) count() (total int64, err error) {
	for _, key := range w.keys() {
		if w.source.kind == "list" {
			n, err := w.client.LLen(w.t.Context(), key).Result()
			if err != nil {
				return 0, err
			}
			total += n
		}
		n, err := w.client.XLen(w.t.Context(), w.streamOf(key)).Result()
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// keys are those that producers push to.
func (w *world) keys() []string {
	key := map[string]string{"stream": "book-like-events", "list": "BookLikeEventList"}[w.source.kind]
	if w.source.partitions == 1 {
		return []string{key}
	}
	var keys []string
	for p := range w.source.partitions {
		keys = append(keys, fmt.Sprintf("%s:{%d}", key, p))
	}
	return keys
}

func (w *world) streamOf(key string) string {
	switch {
	case w.source.kind == "stream":
		return key
	case w.source.partitions > 1:
		return key + ":stream"
	}
	return "{" + key + "}:stream"
}

// emptied waits until Redis answers and holds nothing, for as long as it holds ever less: how long
// a backlog takes depends on what else the machine has to do.
func (w *world) emptied() {
	w.t.Helper()
	least := int64(math.MaxInt64)
	for least > 0 {
		w.until("Redis holds less", func() bool {
			n, err := w.count()
			if err != nil || n >= least {
				return false
			}
			least = n
			return true
		})
	}
}

// until waits for a condition.
func (w *world) until(what string, holds func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			w.t.Fatalf("after %s it is still not so that %s", patience, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
