package rig

import (
	"context"
	"math"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Figures are what was measured of a run, by name.
type Figures = map[string]float64

// Measure does something on the servers and returns what it cost:
//
//	seconds                   on the clock
//	cpu_daemon                processor seconds of the service, if its process is given; else of what ran in our place,
//	                          which is this process and those that it started and that have ended
//	cpu_ourselves             with a service: of this process, which pushes the events
//	cpu_redis, cpu_postgres   of the servers, PostgreSQL with all its backends
//	cpu_others                of everything else on the machine, which should be nothing
//	wal_mib                   of log that PostgreSQL wrote
func (s *Servers) Measure(ctx context.Context, service int, do func() error) (Figures, error) {
	before, err := s.read(ctx, service)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := do(); err != nil {
		return nil, err
	}
	took := time.Since(began).Seconds()
	after, err := s.read(ctx, service)
	if err != nil {
		return nil, err
	}
	f, known := Figures{"seconds": took}, 0.0
	for name, value := range after {
		f[name] = value - before[name]
		if name != "wal_mib" && name != "cpu_others" {
			known += f[name]
		}
	}
	f["cpu_others"] = max(0, f["cpu_others"]-known) // ticks are coarse: a little less than nothing is nothing
	return f, nil
}

// read reads all meters; what is called that of others is that of all.
func (s *Servers) read(ctx context.Context, service int) (f Figures, err error) {
	f = Figures{"cpu_daemon": ours()}
	if service != 0 {
		f["cpu_ourselves"] = f["cpu_daemon"]
		if f["cpu_daemon"], err = s.cpu(service); err != nil {
			return nil, err
		}
	}
	if f["cpu_redis"], err = s.cpu(s.redis.PID()); err != nil {
		return nil, err
	}
	if f["cpu_postgres"], err = s.cpu(s.postgres.PID()); err != nil {
		return nil, err
	}
	all, err := s.proc.Stat()
	if err != nil {
		return nil, err
	}
	c := all.CPUTotal
	f["cpu_others"] = c.User + c.Nice + c.System + c.IRQ + c.SoftIRQ + c.Steal
	var wal int64
	err = s.admin.QueryRow(ctx, "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").Scan(&wal)
	f["wal_mib"] = float64(wal) / (1 << 20)
	return f, err
}

// ours is how many processor seconds this process and the children that it waited for have used.
func ours() (seconds float64) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var usage syscall.Rusage
		_ = syscall.Getrusage(who, &usage) // fails for wrong arguments only
		seconds += time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
	}
	return seconds
}

// cpu is how many processor seconds a process has used so far, with its children that are alive or were waited
// for: a PostgreSQL server is its postmaster and all backends there ever were.
func (s *Servers) cpu(pid int) (seconds float64, err error) {
	all, err := s.proc.AllProcs()
	if err != nil {
		return 0, err
	}
	children, ticks := map[int][]int{}, map[int]int{}
	for _, process := range all {
		if stat, err := process.Stat(); err == nil { // else it ended meanwhile
			children[stat.PPID] = append(children[stat.PPID], stat.PID)
			ticks[stat.PID] = int(stat.UTime+stat.STime) + stat.CUTime + stat.CSTime
		}
	}
	sum := 0
	for queue := []int{pid}; len(queue) > 0; queue = append(queue[1:], children[queue[0]]...) {
		sum += ticks[queue[0]]
	}
	return float64(sum) / 100, nil // ticks are 10 ms on every architecture of Linux that Go supports
}

// watchMemory looks at the peak memory of a process, in bytes, until the function returned is called. What wait4
// tells of a child would include what we had when we started it.
func (s *Servers) watchMemory(pid int) (peak func() int64) {
	done, most := make(chan struct{}), make(chan int64)
	go func() {
		last := uint64(0)
		for ticker := time.NewTicker(10 * time.Millisecond); ; {
			select {
			case <-done:
				ticker.Stop()
				most <- int64(last)
				return
			case <-ticker.C:
				if process, err := s.proc.Proc(pid); err == nil {
					if status, err := process.NewStatus(); err == nil {
						last = max(last, status.VmHWM)
					}
				}
			}
		}
	}()
	return func() int64 { close(done); return <-most }
}

// HeapOnly is the share of heap-only updates among those of the rows of scores and marks in a database, in
// percent; not a number if there were none. It waits until all other sessions have left the database: only then do the
// counts hold all.
func HeapOnly(ctx context.Context, url string) (share float64, err error) {
	err = onDatabase(ctx, url, func(db *pgx.Conn) error {
		for others := math.MaxInt; others > 0; time.Sleep(5 * time.Millisecond) {
			if err := db.QueryRow(ctx, othersSQL).Scan(&others); err != nil {
				return err
			}
		}
		return db.QueryRow(ctx, heapOnlySQL).Scan(&share)
	})
	return share, err
}

const (
	othersSQL = `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()`
	heapOnlySQL = `SELECT coalesce(100 * sum(n_tup_hot_upd) / nullif(sum(n_tup_upd), 0), 'NaN')::float8
		FROM pg_stat_user_tables WHERE relname IN ('genre_score', 'topic_score', 'cumulative_mbti_score', 'mark')`
)
