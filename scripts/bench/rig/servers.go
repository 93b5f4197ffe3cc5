// Package rig is what a benchmark runs on: private servers with durable settings, the states that runs start from,
// the real aggregator as a process, and the meters.
package rig

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/procfs"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"aggregator/internal/testenv"
	"aggregator/scripts/loadgen/catalogue"
	"aggregator/scripts/loadgen/push"
	"aggregator/scripts/loadgen/workload"
)

// PostgresSettings and RedisSettings are those that differ from the defaults, the same for every contender.
// Flushing is as in production; what is raised keeps checkpoints, and rewrites of the append-only file, from
// falling into runs.
var (
	PostgresSettings = []string{"shared_buffers=1GB", "max_wal_size=8GB"}
	RedisSettings    = []string{"save=", "appendonly=yes", "appendfsync=everysec", "auto-aof-rewrite-percentage=0"}
)

// Servers are a running Redis and PostgreSQL, and the aggregator to run on them. They are for one goroutine at a
// time.
type Servers struct {
	Client *redis.Client

	redis    *testenv.RedisServer
	postgres *testenv.PostgresServer
	admin    *pgx.Conn
	binary   string // of the aggregator
	proc     procfs.FS
	seeded   map[catalogue.Shape]string
	made     int    // databases and keys so far
	last     string // the database of the latest run
}

// Start starts both servers. The caller closes them, also after an error.
func Start(ctx context.Context, binary string) (s *Servers, err error) {
	s = &Servers{binary: binary, last: "none yet", seeded: map[catalogue.Shape]string{}}
	if s.proc, err = procfs.NewDefaultFS(); err != nil {
		return s, err
	}
	var args []string
	for _, setting := range RedisSettings {
		name, value := split(setting)
		args = append(args, "--"+name, value)
	}
	if s.redis, err = testenv.StartRedis(ctx, testenv.RedisArgs(args...)); err != nil {
		return s, err
	}
	options := []testenv.PostgresOption{testenv.Durable()}
	for _, setting := range PostgresSettings {
		options = append(options, testenv.Setting(split(setting)))
	}
	if s.postgres, err = testenv.StartPostgres(ctx, options...); err != nil {
		return s, err
	}
	if s.admin, err = pgx.Connect(ctx, s.postgres.URL("postgres")); err != nil {
		return s, err
	}
	client, err := redis.ParseURL(s.redis.URL())
	if err != nil {
		return s, err
	}
	client.MaxRetries = -1
	client.DisableIdentity = true
	client.ReadTimeout = time.Minute // a long stream takes a while to copy
	client.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	s.Client = redis.NewClient(client)
	return s, s.Client.Ping(ctx).Err()
}

func split(setting string) (name, value string) {
	name, value, _ = strings.Cut(setting, "=")
	return name, value
}

// Close ends both servers and removes their data.
func (s *Servers) Close(ctx context.Context) (err error) {
	if s.Client != nil {
		err = errors.Join(err, s.Client.Close())
	}
	if s.admin != nil {
		err = errors.Join(err, s.admin.Close(context.WithoutCancel(ctx)))
	}
	if s.postgres != nil {
		err = errors.Join(err, s.postgres.Close())
	}
	if s.redis != nil {
		err = errors.Join(err, s.redis.Close())
	}
	return err
}

// Ask returns what PostgreSQL answers to a query for one text.
func (s *Servers) Ask(ctx context.Context, query string) (answer string, err error) {
	err = s.admin.QueryRow(ctx, query).Scan(&answer)
	return answer, err
}

// Apart stops PostgreSQL, does something with its data, and starts it again.
func (s *Servers) Apart(ctx context.Context, do func() error) error {
	err := errors.Join(s.admin.Close(ctx), s.postgres.Stop())
	if err == nil {
		err = do()
	}
	if err = errors.Join(err, s.postgres.Start(ctx)); err != nil {
		return err
	}
	s.admin, err = pgx.Connect(ctx, s.postgres.URL("postgres"))
	return err
}

// Forget drops the events of every state.
func (s *Servers) Forget(ctx context.Context) error { return s.Client.FlushAll(ctx).Err() }

// State is what runs start from: a database and the events in Redis, both kept for Restore.
type State struct {
	Events int64 // how many there are

	on       *Servers
	database string
	key      string // where the events are kept
	live     string // where a run finds them
}

// Create makes a database that is migrated, filled, vacuumed and analyzed, so that no run pays for what comes after
// filling. There are no events yet.
func (s *Servers) Create(ctx context.Context, fill func(context.Context, *pgx.Conn) error) (State, error) {
	return s.create(ctx, func(context.Context, string) error { return nil }, fill)
}

// create is Create on a database that begin is given before it is migrated.
func (s *Servers) create(
	ctx context.Context, begin func(ctx context.Context, url string) error, fill func(context.Context, *pgx.Conn) error,
) (State, error) {
	s.made++
	state := State{on: s, database: fmt.Sprintf("state_%d", s.made)}
	url, err := s.postgres.CreateDatabase(ctx, state.database, "")
	if err != nil {
		return state, err
	}
	if err := begin(ctx, url); err != nil {
		return state, err
	}
	if _, err := s.Run(ctx, url, nil, "migrate", "up"); err != nil {
		return state, err
	}
	return state, onDatabase(ctx, url, func(db *pgx.Conn) error {
		if err := fill(ctx, db); err != nil {
			return fmt.Errorf("filling: %w", err)
		}
		_, err = db.Exec(ctx, "VACUUM (FREEZE, ANALYZE)")
		return err
	})
}

func onDatabase(ctx context.Context, url string, do func(*pgx.Conn) error) error {
	db, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	return errors.Join(do(db), db.Close(ctx))
}

// Prepare makes a state of a catalogue and its readers, made once for equal shapes, and the events of a workload.
func (s *Servers) Prepare(ctx context.Context, shape catalogue.Shape, settings workload.Settings) (State, error) {
	state := State{on: s, database: s.seeded[shape]}
	if state.database == "" {
		var err error
		state, err = s.Create(ctx, func(ctx context.Context, db *pgx.Conn) error {
			_, err := catalogue.Fill(ctx, db, shape, false)
			return err
		})
		if err != nil {
			return state, err
		}
		s.seeded[shape] = state.database
	}
	events, err := workload.Open(settings)
	if err != nil {
		return state, err
	}
	return state.With(ctx, settings, events)
}

// With is the state with events added, to the key of the settings.
func (s State) With(ctx context.Context, settings workload.Settings, events workload.Source) (State, error) {
	s.on.made++
	before := s.key
	s.key, s.live = fmt.Sprintf("state %d", s.on.made), settings.Keys()[0]
	if before != "" {
		if err := s.on.Client.Copy(ctx, before, s.key, 0, true).Err(); err != nil {
			return s, err
		}
	}
	settings.Key = s.key
	pushed, err := push.Push(ctx, s.on.Client, settings, events, push.Options{Clients: 1, Pipeline: 1000}, nil)
	s.Events += pushed.Acknowledged
	return s, err
}

// Restore gives a run the state: a new copy of the database, whose URL it returns, and of the events, under their
// usual key. Nothing is left to be flushed when it returns. The database of the run before is dropped.
func (s State) Restore(ctx context.Context) (string, error) {
	on := s.on
	if err := on.postgres.DropDatabase(ctx, on.last); err != nil {
		return "", err
	}
	on.made++
	on.last = fmt.Sprintf("run_%d", on.made)
	url, err := on.postgres.CreateDatabase(ctx, on.last, s.database)
	if err != nil {
		return "", err
	}
	if s.key != "" {
		copied, err := on.Client.Copy(ctx, s.key, s.live, 0, true).Result()
		if err == nil && copied != 1 {
			err = errors.New("the events of the state are gone")
		}
		if err != nil {
			return "", err
		}
	}
	_, err = on.admin.Exec(ctx, "CHECKPOINT")
	return url, err
}

// Aged is the state that this one is in when the aggregator has drained it.
func (s State) Aged(ctx context.Context) (State, error) {
	url, err := s.Restore(ctx)
	if err != nil {
		return s, err
	}
	if _, err := s.on.Run(ctx, url, nil, "drain"); err != nil {
		return s, err
	}
	err = onDatabase(ctx, url, func(db *pgx.Conn) error {
		_, err := db.Exec(ctx, "VACUUM (FREEZE, ANALYZE)")
		return err
	})
	aged := State{on: s.on, database: s.on.last, key: s.key + " aged", live: s.live}
	s.on.last = "none yet" // that database stays
	return aged, errors.Join(err, s.on.Client.Rename(ctx, s.live, aged.key).Err())
}
