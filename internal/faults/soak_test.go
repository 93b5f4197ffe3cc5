//go:build faults

package faults_test

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSoak injects faults at random under continuous load, for as long as SOAK says, then
// lets the daemons finish and compares everything. SOAK_RATE is events a second.
func TestSoak(t *testing.T) {
	soak(t, cmp.Or(os.Getenv("SOAK"), "1m"), cmp.Or(os.Getenv("SOAK_RATE"), "800"), stream)
}

// TestMixture is a short soak of each kind of source.
func TestMixture(t *testing.T) {
	t.Parallel()
	for _, from := range []source{stream, listLeft, listRight, partitioned} {
		t.Run(from.String(), func(t *testing.T) {
			t.Parallel()
			soak(t, "30s", "300", from)
		})
	}
}

// soaking is a soak under way.
type soaking struct {
	*world
	toRedis, toPostgres *proxy
	daemons             []*daemon
	frozen              *daemon
	thaw                time.Time
	faults              []fault
	counts              map[string]int
	began               time.Time
	lines               int
}

// fault is one kind of fault, and how often it is chosen.
type fault struct {
	name   string
	weight int
	inject func()
}

func soak(t *testing.T, length, rate string, from source) {
	lasting, err := time.ParseDuration(length)
	require.NoError(t, err, "SOAK")
	perSecond, err := strconv.Atoi(rate)
	require.NoError(t, err, "SOAK_RATE")
	s := newSoak(t, from)
	pushed := s.load(perSecond, lasting)
	var loaded atomic.Bool
	go func() {
		defer loaded.Store(true)
		_ = pushed.Wait()
	}()
	s.until("the load has begun", func() bool { // it gives up on a Redis that is not there when it begins
		n, err := s.count()
		return err == nil && n > 0 || loaded.Load()
	})
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for s.began = time.Now(); time.Since(s.began) < lasting; {
		s.step()
		select {
		case <-tick.C:
			s.print()
		case <-time.After(rand.N(600 * time.Millisecond)): // until the next fault
		}
	}
	s.calm()
	s.until("all is pushed", loaded.Load)
	require.True(t, pushed.ProcessState.Success(), "%s", pushed.Stderr)
	s.emptied()
	for _, d := range s.daemons {
		d.stop()
	}
	s.print()
	s.finish()
	total := 0
	for _, n := range s.counts {
		total += n
	}
	fmt.Printf("%s: %d faults in %s: %s\n", t.Name(), total, time.Since(s.began).Round(time.Second), s.tally())
}

func newSoak(t *testing.T, from source) *soaking {
	w := newWorld(t, setup{source: from, postgres: own})
	w.unordered = true
	s := &soaking{world: w, counts: map[string]int{}, daemons: make([]*daemon, 2)}
	s.toRedis, w.redisURL = newProxy(t, w.redisURL, redisMessages(t))
	s.toPostgres, w.postgresURL = newProxy(t, w.postgresURL, postgresMessages)
	w.redisURL += "?read_timeout=1s"
	redisMessages := []string{"XRANGE", "XREAD", "LLEN", "EVALSHA trim", "EVALSHA move", "EVALSHA_RO inspect"}
	postgresMessages := []string{"sync", "query commit", "query begin", "parse", "bind", "startup"}
	s.faults = []fault{
		{"daemon killed", 40, func() { s.any().kill() }},
		{"daemon stopped", 5, func() { s.any().signal(syscall.SIGTERM) }},
		{"daemon frozen", 8, s.freezeOne},
		{"Redis reply lost", 18, func() { s.toRedis.lose(redisMessages[rand.IntN(len(redisMessages))], 1, false) }},
		{"Redis reply stalled", 4, func() { s.toRedis.lose(redisMessages[rand.IntN(len(redisMessages))], 1, true) }},
		{
			"PostgreSQL reply lost", 12,
			func() { s.toPostgres.lose(postgresMessages[rand.IntN(len(postgresMessages))], 1, false) },
		},
		{"PostgreSQL backend killed", 6, s.killBackend},
		{"PostgreSQL crashed", 4, s.crash},
		{"Redis killed", 6, func() {
			require.NoError(t, s.redis.Kill())
			require.NoError(t, s.redis.Start(t.Context()))
		}},
	}
	return s
}

// load is world.load, without waiting.
func (s *soaking) load(rate int, d time.Duration) *exec.Cmd {
	cmd := s.pushing(s.t.Context(), 0, "--rate", strconv.Itoa(rate), "--duration", d.String(), "--continue-on-error",
		"--pipeline", "20", "--clients", "2", "--timeout", "2s", "--profile-dist", "uniform")
	cmd.Stderr = &bytes.Buffer{}
	require.NoError(s.t, cmd.Start())
	return cmd
}

// step keeps the daemons alive, as systemd would, and injects one fault.
func (s *soaking) step() {
	s.revive()
	if s.frozen != nil && time.Now().After(s.thaw) {
		s.frozen.signal(syscall.SIGCONT)
		s.frozen = nil
	}
	total := 0
	for _, f := range s.faults {
		total += f.weight
	}
	n := rand.IntN(total)
	for _, f := range s.faults {
		if n -= f.weight; n < 0 {
			f.inject()
			s.counts[f.name]++
			s.countReplies()
			return
		}
	}
}

// countReplies counts what the proxies did, for not every reply that shall get lost comes.
func (s *soaking) countReplies() {
	s.counts["Redis reply lost"], s.counts["Redis reply stalled"] = s.toRedis.ever()
	s.counts["PostgreSQL reply lost"], _ = s.toPostgres.ever()
}

func (s *soaking) revive() {
	for i, d := range s.daemons {
		if d == nil || !d.running() {
			if d != nil {
				code := d.cmd.ProcessState.ExitCode()
				require.Contains(s.t, []int{-1, 0, 69}, code, "%s", d.tail())
				_ = os.Remove(d.log)
			}
			s.daemons[i] = s.start("run", "AGGREGATOR_LOG_LEVEL=warn", "AGGREGATOR_CHUNK_MAX_EVENTS=5000")
		}
	}
}

// any is a daemon that runs and is not frozen, or else one that is.
func (s *soaking) any() *daemon {
	d := s.daemons[rand.IntN(len(s.daemons))]
	if d == s.frozen {
		s.frozen = nil
		d.signal(syscall.SIGCONT)
	}
	return d
}

func (s *soaking) freezeOne() {
	if s.frozen != nil {
		return
	}
	s.frozen, s.thaw = s.any(), time.Now().Add(rand.N(8*time.Second))
	s.frozen.signal(syscall.SIGSTOP)
}

func (s *soaking) killBackend() {
	pids := s.backends()
	if len(pids) == 0 {
		return
	}
	_ = syscall.Kill(pids[rand.IntN(len(pids))], syscall.SIGKILL)
	s.until("PostgreSQL has recovered", func() bool { return s.number("SELECT 1") == 1 })
}

// calm ends the faults.
func (s *soaking) calm() {
	s.toRedis.lose("", 0, false)
	s.toPostgres.lose("", 0, false)
	for _, d := range s.daemons {
		d.signal(syscall.SIGCONT)
	}
	for range 3 { // one may have been told to stop, or find a server still starting
		s.revive()
		time.Sleep(time.Second)
	}
}

// print writes a line of counts: of events, and of faults.
func (s *soaking) print() {
	acked, unknown := s.acknowledged()
	if s.lines++; s.lines == 1 {
		fmt.Printf("%s: %6s %10s %8s %10s %8s\n", s.t.Name(), "time", "acked", "unknown", "applied", "dead")
	}
	fmt.Printf("%s: %6s %10d %8d %10d %8d  %s\n", s.t.Name(), time.Since(s.began).Round(time.Second), acked, unknown,
		s.number("SELECT coalesce(sum(applied), 0)::bigint FROM aggregator.mark"),
		s.number("SELECT count(*) FROM aggregator.dead_letter"), s.tally())
}

func (s *soaking) tally() string {
	var parts []string
	for name, n := range s.counts {
		parts = append(parts, fmt.Sprintf("%s %d", name, n))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// acknowledged reads the journal of the load generator.
func (s *soaking) acknowledged() (acked, unknown int64) {
	text, err := os.ReadFile(s.journal)
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(text)) {
		var outcome byte
		var first, last int64
		if n, _ := fmt.Sscanf(line, "%c %d-%d", &outcome, &first, &last); n != 3 {
			continue
		}
		switch outcome {
		case 'a':
			acked += last - first + 1
		case 'u':
			unknown += last - first + 1
		}
	}
	return acked, unknown
}
