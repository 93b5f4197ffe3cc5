// Package servers are the private Redis and PostgreSQL that a benchmark runs on, with
// durable settings, and the states that its runs start from: each run is given a new copy
// of the same database and of the same stream.
package servers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
	"aggregator/scripts/loadgen/catalogue"
	"aggregator/scripts/loadgen/push"
	"aggregator/scripts/loadgen/workload"
)

// PostgresSettings are those that differ from the defaults of PostgreSQL, the same for
// every contender. Flushing is as in production; what is raised keeps checkpoints from
// falling into runs at random.
var PostgresSettings = [][2]string{{"shared_buffers", "1GB"}, {"max_wal_size", "8GB"}}

// RedisSettings are those that differ from the defaults of Redis. Without the last one
// the append-only file would be rewritten in the middle of some runs.
var RedisSettings = [][2]string{{"save", ""}, {"appendonly", "yes"}, {"appendfsync", "everysec"}, {"auto-aof-rewrite-percentage", "0"}}

// Servers are running. They are for one goroutine at a time.
type Servers struct {
	Redis    *testenv.RedisServer
	Postgres *testenv.PostgresServer
	Client   *redis.Client

	admin  *pgx.Conn
	seeded map[catalogue.Shape]string // the names of databases that copies are made of
	runs   int
	last   string // the database of the latest run
}

// Settings are what servers get besides PostgresSettings and RedisSettings, or instead.
type Settings struct{ Postgres, Redis [][2]string }

// Start starts both. The caller closes them. On error nothing is left behind.
func Start(ctx context.Context, other Settings) (*Servers, error) {
	s := &Servers{seeded: map[catalogue.Shape]string{}}
	if err := s.start(ctx, other); err != nil {
		return nil, errors.Join(err, s.Close(ctx))
	}
	return s, nil
}

func (s *Servers) start(ctx context.Context, other Settings) (err error) {
	var redisArgs []string
	for _, setting := range slices.Concat(RedisSettings, other.Redis) {
		redisArgs = append(redisArgs, "--"+setting[0], setting[1])
	}
	if s.Redis, err = testenv.StartRedis(ctx, testenv.RedisArgs(redisArgs...)); err != nil {
		return err
	}
	postgresOptions := []testenv.PostgresOption{testenv.Durable()}
	for _, setting := range slices.Concat(PostgresSettings, other.Postgres) {
		postgresOptions = append(postgresOptions, testenv.Setting(setting[0], setting[1]))
	}
	if s.Postgres, err = testenv.StartPostgres(ctx, postgresOptions...); err != nil {
		return err
	}
	if s.admin, err = pgx.Connect(ctx, s.Postgres.URL("postgres")); err != nil {
		return err
	}
	options, err := redis.ParseURL(s.Redis.URL())
	if err != nil {
		return err
	}
	options.MaxRetries = -1
	options.DisableIdentity = true
	options.ReadTimeout = time.Minute // a long stream takes a while to copy
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	s.Client = redis.NewClient(options)
	return s.Client.Ping(ctx).Err()
}

// Close ends both servers and removes their data.
func (s *Servers) Close(ctx context.Context) error {
	var all error
	if s.Client != nil {
		all = errors.Join(all, s.Client.Close())
	}
	if s.admin != nil {
		all = errors.Join(all, s.admin.Close(context.WithoutCancel(ctx)))
	}
	if s.Postgres != nil {
		all = errors.Join(all, s.Postgres.Close())
	}
	if s.Redis != nil {
		all = errors.Join(all, s.Redis.Close())
	}
	return all
}

// State is what runs start from.
type State struct {
	Events  int64    // how many there are
	Servers *Servers // that keep it

	database string
	workload workload.Settings
}

// Prepare makes a state: a database seeded with the shape, and the events of the workload
// in Redis, both kept for Restore. A database of the same shape is made once. It is
// migrated, filled, vacuumed and analyzed, so that no run pays for what comes after filling.
func (s *Servers) Prepare(ctx context.Context, shape catalogue.Shape, settings workload.Settings) (State, error) {
	state := State{Servers: s, workload: settings, database: s.seeded[shape]}
	if state.database == "" {
		state.database = fmt.Sprintf("seeded_%d", len(s.seeded)+1)
		if err := s.seed(ctx, state.database, shape); err != nil {
			return state, fmt.Errorf("seeding: %w", err)
		}
		s.seeded[shape] = state.database
	}
	settings.Key = stored(settings)
	events, err := workload.Open(settings)
	if err != nil {
		return state, err
	}
	report, err := push.Push(ctx, s.Client, settings, events, push.Options{Clients: 1, Pipeline: 1000}, nil)
	state.Events = report.Acknowledged
	return state, err
}

func (s *Servers) seed(ctx context.Context, database string, shape catalogue.Shape) error {
	url, err := s.Postgres.CreateDatabase(ctx, database, "")
	if err != nil {
		return err
	}
	if err := postgres.Migrate(ctx, postgres.Options{URL: url}); err != nil {
		return err
	}
	db, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer db.Close(ctx)
	if _, err := catalogue.Fill(ctx, db, shape, false); err != nil {
		return err
	}
	_, err = db.Exec(ctx, "VACUUM (FREEZE, ANALYZE)")
	return err
}

// stored is the key where the events of a workload are kept.
func stored(s workload.Settings) string { return fmt.Sprintf("stored %+v", s) }

// Restore gives a run the state: a new copy of the database, whose URL it returns, and of
// the events, under their usual key. Nothing is left to be flushed when it returns. The
// database of the run before is dropped.
func (s *Servers) Restore(ctx context.Context, state State) (string, error) {
	url, err := s.fresh(ctx, state.database)
	if err != nil {
		return "", err
	}
	key := workload.DefaultKey(state.workload.Kind)
	if err := s.Client.Del(ctx, key).Err(); err != nil {
		return "", err
	}
	copied, err := s.Client.Copy(ctx, stored(state.workload), key, 0, true).Result()
	if err != nil {
		return "", err
	}
	if copied != 1 && state.Events > 0 {
		return "", errors.New("the events of the workload are gone")
	}
	_, err = s.admin.Exec(ctx, "CHECKPOINT")
	return url, err
}

// fresh makes the database of the next run and drops that of the last.
func (s *Servers) fresh(ctx context.Context, from string) (string, error) {
	if s.last != "" {
		if err := s.Postgres.DropDatabase(ctx, s.last); err != nil {
			return "", err
		}
	}
	s.runs++
	s.last = fmt.Sprintf("run_%d", s.runs)
	return s.Postgres.CreateDatabase(ctx, s.last, from)
}

// Forget drops all events, and with them every state.
func (s *Servers) Forget(ctx context.Context) error { return s.Client.FlushAll(ctx).Err() }

// Versions are those of Redis and PostgreSQL.
func (s *Servers) Versions(ctx context.Context) (ofRedis, ofPostgres string, err error) {
	info, err := s.Client.InfoMap(ctx, "server").Result()
	if err != nil {
		return "", "", err
	}
	err = s.admin.QueryRow(ctx, "SHOW server_version").Scan(&ofPostgres)
	return info["Server"]["redis_version"], ofPostgres, err
}

// WAL is how many bytes of log PostgreSQL has written so far.
func (s *Servers) WAL(ctx context.Context) (bytes int64, err error) {
	err = s.admin.QueryRow(ctx, "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").Scan(&bytes)
	return bytes, err
}
