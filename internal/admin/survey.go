package admin

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"aggregator/internal/aggregator"
	"aggregator/internal/cluster"
	"aggregator/internal/deadletter"
	"aggregator/internal/events"
	"aggregator/internal/ledger"
	"aggregator/internal/postgres"
	"aggregator/internal/runs"
)

// Health is whether a server answers, and how.
type Health struct {
	Err     error // why it does not
	Version string
	Latency time.Duration // of one round trip
}

// Survey is what the servers say of each other's half of the work. What could not be found
// out is nil.
type Survey struct {
	At       time.Time // when it was taken, by PostgreSQL's clock if it answered, else by ours
	Redis    Health
	Postgres Health
	Schema   struct {
		Err error // what is wrong with it, or why that is not known
		postgres.Schema
	}
	Sources []SourceSurvey
	Members []cluster.Member // that are alive
	Leases  []cluster.Lease  // of any name, also those whose time is over
	Jobs    []runs.Ends
	Dead    map[events.Reason]int64 // dead letters that are not settled
	// Incidents are all that are not accepted, of any source, oldest first. Those that are found just now,
	// and are not recorded yet, come last.
	Incidents []ledger.Incident
	Err       error // the first of all other errors
}

// SourceSurvey is how far a source is.
type SourceSurvey struct {
	Source     *events.Source
	Checkpoint *ledger.Checkpoint
	Lease      *cluster.Lease // also one whose time is over
	Waiting    *int64         // entries after the checkpoint; see events.Source.Waiting
	// Oldest is when the oldest of them was pushed, by the clock of Redis; nil also if none
	// is in the stream.
	Oldest *time.Time
}

// Look asks both servers. Where PostgreSQL does not answer, the bookmark in Redis stands in for the
// checkpoint; also without a pool, in which case the caller knows why. It reads only, and when a server is
// silent it takes as long as ctx lets it.
func Look(ctx context.Context, pool *pgxpool.Pool, client redis.UniversalClient, sources []*events.Source) Survey {
	s := newSurvey(sources)
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		s.Redis = AskRedis(ctx, client)
	}()
	if pool != nil {
		s.askPostgres(ctx, pool)
	}
	<-asked
	if s.Redis.Err == nil {
		s.count(ctx)
	}
	if s.Redis.Err == nil && s.Incidents != nil {
		s.recognise(ctx, pool)
	}
	return s
}

// Progress asks both servers how far the sources are, and nothing else. The error is the first of a server; with it
// comes what was found out, which is nothing without PostgreSQL. Reads only.
func Progress(ctx context.Context, pool *pgxpool.Pool, sources []*events.Source) ([]SourceSurvey, error) {
	s := newSurvey(sources)
	if err := s.locate(ctx, pool); err != nil {
		return nil, err
	}
	s.count(ctx)
	return s.Sources, s.Err
}

func newSurvey(sources []*events.Source) Survey {
	s := Survey{At: time.Now()}
	for _, source := range sources {
		s.Sources = append(s.Sources, SourceSurvey{Source: source})
	}
	return s
}

// locate reads the checkpoints.
func (s *Survey) locate(ctx context.Context, pool *pgxpool.Pool) error {
	checkpoints, err := ledger.Checkpoints(ctx, pool)
	at := make(map[string]*ledger.Checkpoint, len(checkpoints))
	for i := range checkpoints {
		at[checkpoints[i].Source] = &checkpoints[i]
	}
	for i := range s.Sources {
		s.Sources[i].Checkpoint = at[s.Sources[i].Source.Name()]
	}
	return err
}

// recognise adds the incidents that are not recorded yet.
func (s *Survey) recognise(ctx context.Context, pool *pgxpool.Pool) {
	for _, source := range s.Sources {
		found, err := aggregator.Recognise(ctx, pool, source.Source)
		s.keep(err)
		s.Incidents = append(s.Incidents, found...)
	}
}

// OpenOf are the incidents of the survey's own sources.
func (s Survey) OpenOf() (open []ledger.Incident) {
	for _, i := range s.Incidents {
		if slices.ContainsFunc(s.Sources, func(one SourceSurvey) bool { return one.Source.Name() == i.Source }) {
			open = append(open, i)
		}
	}
	return open
}

// Rate is how many entries of a source were processed a second since an earlier survey; false if that is not known.
func (s Survey) Rate(before Survey, source string) (float64, bool) {
	now, then := s.checkpoint(source), before.checkpoint(source)
	seconds := s.At.Sub(before.At).Seconds()
	if now == nil || then == nil || seconds <= 0 {
		return 0, false
	}
	return float64(now.Entries-then.Entries) / seconds, true
}

func (s Survey) checkpoint(source string) *ledger.Checkpoint {
	for _, one := range s.Sources {
		if one.Source.Name() == source {
			return one.Checkpoint
		}
	}
	return nil
}

func (s *Survey) keep(err error) {
	if s.Err == nil {
		s.Err = err
	}
}

// AskRedis asks for the version, which needs no right, and measures the time.
func AskRedis(ctx context.Context, client redis.UniversalClient) (h Health) {
	reply, err := client.Do(ctx, "HELLO").Result()
	if err != nil {
		return Health{Err: err}
	}
	h.Version = "unknown"
	switch reply := reply.(type) {
	case map[any]any:
		h.Version = fmt.Sprint(reply["version"])
	case []any:
		for i := 0; i+1 < len(reply); i += 2 {
			if reply[i] == "version" {
				h.Version = fmt.Sprint(reply[i+1])
			}
		}
	}
	began := time.Now() // now that there is a connection
	h.Err = client.Do(ctx, "HELLO").Err()
	h.Latency = time.Since(began)
	return h
}

func (s *Survey) askPostgres(ctx context.Context, pool *pgxpool.Pool) {
	h := &s.Postgres
	if h.Err = postgres.Ping(ctx, pool); h.Err == nil {
		began := time.Now() // now that there is a connection
		h.Err = postgres.Ping(ctx, pool)
		h.Latency = time.Since(began)
	}
	if h.Err == nil {
		h.Err = pool.QueryRow(ctx, `SELECT split_part(current_setting('server_version'), ' ', 1), clock_timestamp()`).Scan(
			&h.Version, &s.At)
	}
	if s.Schema.Err = h.Err; h.Err != nil {
		return
	}
	if s.Schema.Schema, s.Schema.Err = postgres.CheckSchema(ctx, pool); s.Schema.Err != nil {
		return
	}
	s.keep(s.locate(ctx, pool))
	leases, err := cluster.Leases(ctx, pool)
	s.keep(err)
	s.Leases = leases
	members, now, err := cluster.Members(ctx, pool)
	s.keep(err)
	s.Members = slices.DeleteFunc(members, func(m cluster.Member) bool { return !m.Lives(now) })
	s.Jobs, err = runs.LastEnds(ctx, pool)
	s.keep(err)
	s.Dead, err = deadletter.CountUnsettled(ctx, pool)
	s.keep(err)
	s.Incidents, err = ledger.OpenIncidents(ctx, pool)
	s.keep(err)
	held := make(map[string]*cluster.Lease, len(leases))
	for i := range leases {
		held[leases[i].Source] = &leases[i]
	}
	for i := range s.Sources {
		s.Sources[i].Lease = held[s.Sources[i].Source.Name()]
	}
}

// count counts what waits in each source. What is wrong with one does not keep it from the others.
func (s *Survey) count(ctx context.Context) {
	for i := range s.Sources {
		s.keep(s.Sources[i].count(ctx))
		if ctx.Err() != nil {
			return
		}
	}
}

func (s *SourceSurvey) count(ctx context.Context) error {
	var position events.Position
	var entries int64
	if c := s.Checkpoint; c != nil {
		position, entries = c.Position, c.Entries
	} else {
		state, err := s.Source.Inspect(ctx)
		if err != nil {
			return err
		}
		position, entries = state.Begin()
	}
	waiting, err := s.Source.Waiting(ctx, position, entries)
	if err != nil {
		return err
	}
	s.Waiting = &waiting
	oldest, err := s.Source.Oldest(ctx, position)
	if err != nil {
		return err
	}
	if !oldest.IsZero() {
		at := oldest.Time()
		s.Oldest = &at
	}
	return nil
}
