package meter

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"aggregator/scripts/bench/results"
	"aggregator/scripts/bench/servers"
)

// Measure does something, and says what it has cost. The processor time of the contender
// is ours, with that of the processes that we started and that have ended.
func Measure(ctx context.Context, s *servers.Servers, do func() error) (results.Run, error) {
	before, err := read(ctx, s)
	if err != nil {
		return results.Run{}, err
	}
	began := time.Now()
	err = do()
	took := time.Since(began)
	if err != nil {
		return results.Run{}, err
	}
	after, err := read(ctx, s)
	if err != nil {
		return results.Run{}, err
	}
	run := results.Run{Seconds: took.Seconds(), WAL: after.wal - before.wal, CPU: results.CPU{
		Contender: (after.ours - before.ours).Seconds(),
		Redis:     (after.redis - before.redis).Seconds(),
		Postgres:  (after.postgres - before.postgres).Seconds(),
	}}
	// Ticks are coarse: a little less than nothing is nothing.
	run.CPU.Others = max(0, (after.all-before.all).Seconds()-run.CPU.Contender-run.CPU.Redis-run.CPU.Postgres)
	return run, nil
}

// Cores does something beside a running service, and says how many cores were busy
// meanwhile, and how long it took. The contender is the service; what we do ourselves,
// such as pushing events, is told apart.
func Cores(ctx context.Context, s *servers.Servers, service int, do func() error) (results.CPU, error) {
	before, err := read(ctx, s)
	if err != nil {
		return results.CPU{}, err
	}
	began, used := time.Now(), CPU(service)
	if err := do(); err != nil {
		return results.CPU{}, err
	}
	used = CPU(service) - used
	seconds := time.Since(began).Seconds()
	after, err := read(ctx, s)
	if err != nil {
		return results.CPU{}, err
	}
	cores := results.CPU{
		Contender: used.Seconds() / seconds,
		Redis:     (after.redis - before.redis).Seconds() / seconds,
		Postgres:  (after.postgres - before.postgres).Seconds() / seconds,
		Ourselves: (after.ours - before.ours).Seconds() / seconds,
	}
	known := cores.Contender + cores.Redis + cores.Postgres + cores.Ourselves
	cores.Others = max(0, (after.all-before.all).Seconds()/seconds-known)
	return cores, nil
}

// reading is how far the meters have come.
type reading struct {
	redis, postgres, ours, all time.Duration
	wal                        int64
}

func read(ctx context.Context, s *servers.Servers) (r reading, err error) {
	if r.wal, err = s.WAL(ctx); err != nil {
		return r, err
	}
	r.redis, r.postgres = CPU(s.Redis.PID()), CPU(s.Postgres.PID())
	if r.ours, err = ours(); err != nil {
		return r, err
	}
	r.all, err = Busy()
	return r, err
}

// ours is the processor time of this process and of the children that it waited for.
func ours() (sum time.Duration, err error) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var usage syscall.Rusage
		if err := syscall.Getrusage(who, &usage); err != nil {
			return 0, fmt.Errorf("getrusage: %w", err)
		}
		sum += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	return sum, nil
}

// Updates counts the updates of the rows of scores and marks in a database, and those
// among them that were heap-only. It waits until everybody else has left the database:
// only then do the counts hold all that was done.
func Updates(ctx context.Context, url string) (all, heapOnly int64, err error) {
	db, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, 0, err
	}
	defer db.Close(ctx)
	for others := 1; others > 0; {
		if err := db.QueryRow(ctx, othersSQL).Scan(&others); err != nil {
			return 0, 0, err
		}
		if others > 0 {
			time.Sleep(5 * time.Millisecond)
		}
	}
	err = db.QueryRow(ctx, updatesSQL).Scan(&all, &heapOnly)
	return all, heapOnly, err
}

const (
	othersSQL = `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()`
	updatesSQL = `SELECT coalesce(sum(n_tup_upd), 0)::bigint, coalesce(sum(n_tup_hot_upd), 0)::bigint FROM pg_stat_user_tables
		WHERE relname IN ('genre_score', 'topic_score', 'cumulative_mbti_score', 'mark')`
)
