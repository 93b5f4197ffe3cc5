package cluster

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var simulate = flag.String("simulate", "20,200,30", "instances, sources, and how often one joins, leaves or fails")

// memory is the table in memory, with a clock of its own. It does what the statements of server do.
type memory struct {
	sources int
	ahead   time.Duration // of its clock
	slow    time.Duration // that an answer may take

	mu      sync.Mutex
	members map[string]Member
	leases  map[string]Lease
	hears   map[*ear]bool
	turns   int

	// what the simulation is about
	moves   int
	lost    map[string]time.Time // since when a source has no owner
	unowned []time.Duration      // of each source that got one again
}

// ear is the connection of one instance.
type ear struct {
	*memory
	words chan string
	cut   bool
}

func newMemory(sources int) *memory {
	return &memory{
		sources: sources, members: make(map[string]Member), leases: make(map[string]Lease), hears: make(map[*ear]bool),
		lost: make(map[string]time.Time),
	}
}

func (m *memory) connect() *ear {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := &ear{memory: m, words: make(chan string, 1)}
	m.hears[e] = true
	return e
}

func (e *ear) say(word string) {
	for other := range e.hears {
		if other != e {
			select {
			case other.words <- word:
			default: // it has one to hear yet
			}
		}
	}
}

func (e *ear) turn(ctx context.Context, t turn) (view, error) {
	time.Sleep(time.Duration(1+rand.IntN(4)) * time.Millisecond) // the way there and back
	var slow time.Duration
	defer func() { time.Sleep(rand.N(slow + 1)) }()
	e.mu.Lock()
	defer e.mu.Unlock()
	slow = e.slow
	if e.cut {
		e.mu.Unlock()
		<-ctx.Done()
		e.mu.Lock()
		return view{}, ctx.Err()
	}
	e.turns++
	now := time.Now().Add(e.ahead)
	me := t.Me
	me.Started, me.Seen, me.Expires = now, now, now.Add(t.TTL)
	if was, there := e.members[me.Instance]; there {
		if was.Token != me.Token && was.Lives(now) && !was.Seen.Equal(t.Former) {
			return view{Now: now, Me: &was}, nil
		}
		if was.Token == me.Token {
			me.Started = was.Started
		}
	}
	e.members[me.Instance] = me
	for _, source := range t.GiveUp {
		if e.leases[source].Holder == me.Instance {
			e.lost[source] = time.Now()
			delete(e.leases, source)
		}
	}
	for _, source := range t.Renew {
		if l := e.leases[source]; l.Holder == me.Instance {
			l.Expires = now.Add(t.TTL)
			e.leases[source] = l
		}
	}
	for _, source := range t.Take {
		if l, there := e.leases[source]; there && l.Held(now) {
			continue
		}
		if since, known := e.lost[source]; known {
			e.unowned = append(e.unowned, time.Since(since))
			delete(e.lost, source)
		}
		e.moves++
		e.leases[source] = Lease{source, me.Instance, now, now.Add(t.TTL)}
	}
	if t.Say != "" {
		e.say(t.Say)
	}
	v := view{Now: now, Me: &me, Leases: make([]Lease, 0, len(e.leases))}
	for name, other := range e.members {
		if name != me.Instance {
			v.Members = append(v.Members, other)
		}
	}
	for _, l := range e.leases {
		v.Leases = append(v.Leases, l)
	}
	return v, nil
}

func (e *ear) leave(_ context.Context, me Member, sources []string, say string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cut {
		return context.DeadlineExceeded
	}
	delete(e.members, me.Instance)
	for _, source := range sources {
		if e.leases[source].Holder == me.Instance {
			e.lost[source] = time.Now()
			delete(e.leases, source)
		}
	}
	e.say(say)
	return nil
}

func (e *ear) word(ctx context.Context) (string, error) {
	select {
	case word := <-e.words:
		return word, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (e *ear) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.hears, e)
}

// fail cuts an instance off: it is gone without a word.
func (e *ear) fail(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cut = true
	delete(e.hears, e)
	for source, l := range e.leases {
		if l.Holder == name {
			e.lost[source] = time.Now()
		}
	}
}

// actor is an instance of the simulation.
type actor struct {
	*Keeper
	ear  *ear
	stop context.CancelFunc
}

func (m *memory) start(name string, ttl time.Duration, running *sync.WaitGroup) *actor {
	ctx, stop := context.WithCancel(context.Background())
	a := &actor{ear: m.connect(), stop: stop}
	a.Keeper = newKeeper(a.ear, Options{
		Name: name, TTL: ttl, Sources: names("s", m.sources), Group: Group{"stream", "s", m.sources},
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	running.Go(func() {
		time.Sleep(rand.N(a.every())) // their turns are at any time
		_ = a.Run(ctx)
	})
	return a
}

// counts are how many sources each instance holds, the least and the most first.
func (m *memory) spread() (least, most, held int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now().Add(m.ahead)
	has := make(map[string]int)
	for name, member := range m.members {
		if member.Lives(now) {
			has[name] = 0
		}
	}
	for _, l := range m.leases {
		if _, lives := has[l.Holder]; lives && l.Held(now) {
			has[l.Holder]++
			held++
		}
	}
	least = m.sources
	for _, n := range has {
		least, most = min(least, n), max(most, n)
	}
	return least, most, held
}

// took are how many sources have moved since the last call, and for how long they had no owner.
func (m *memory) took() (moves, turns int, unowned []time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	moves, turns, unowned = m.moves, m.turns, slices.Sorted(slices.Values(m.unowned))
	m.moves, m.turns, m.unowned = 0, 0, nil
	return moves, turns, unowned
}

func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, len(sorted)*p/100)].Round(time.Millisecond)
}

// Many instances come, go and fail. For figures of docs/scaling.md:
//
//	go test -run TestSimulation -v -count=1 -timeout 2h ./internal/cluster -simulate 1000,10000,6
func TestSimulation(t *testing.T) {
	t.Parallel()
	const ttl = 5 * time.Second
	var instances, sources, events int
	_, err := fmt.Sscanf(*simulate, "%d,%d,%d", &instances, &sources, &events)
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(sources)
		r := rand.New(rand.NewPCG(1, uint64(instances)))
		var running sync.WaitGroup
		var all []*actor
		report := func(what string) {
			least, most, held := m.spread()
			moves, turns, unowned := m.took()
			t.Logf("%-6s %4d instances have %d to %d of %d sources; %5d moves, %5d statements; without an owner p50 %s, p99 "+
				"%s, at most %s",
				what, len(all), least, most, sources, moves, turns, percentile(unowned, 50), percentile(unowned, 99),
				percentile(unowned, 100))
			require.Equal(t, sources, held, what)
			require.LessOrEqual(t, most-least, 1, what)
		}
		// They share the sources already: each comes back to its own.
		for i, source := range names("s", sources) {
			at := time.Now()
			m.leases[source] = Lease{source, fmt.Sprintf("i%d", i%instances), at, at.Add(ttl)}
		}
		for i := range instances {
			all = append(all, m.start(fmt.Sprintf("i%d", i), ttl, &running))
		}
		time.Sleep(ttl)
		report("start")
		for n := range events {
			what, few := []string{"join", "leave", "fail"}[n%3], ceil(sources, len(all))
			i := r.IntN(len(all))
			wait := ttl // two turns, and what one needs to begin
			switch what {
			case "join":
				all = append(all, m.start(fmt.Sprintf("%c%d", 'a'+rune(r.IntN(26)), instances+n), ttl, &running))
			case "leave":
				all[i].stop()
				all = slices.Delete(all, i, i+1)
			case "fail":
				all[i].ear.fail(all[i].options.Name)
				all[i].stop()
				all = slices.Delete(all, i, i+1)
				wait += ttl
			}
			time.Sleep(wait)
			m.mu.Lock()
			moves := m.moves
			m.mu.Unlock()
			report(what)
			require.LessOrEqual(t, moves, few)
		}
		peace := 10 * time.Minute / time.Duration(max(1, instances/20))
		time.Sleep(peace)
		moves, turns, _ := m.took()
		require.Zero(t, moves)
		t.Logf("%s of peace: 0 moves, %d statements", peace, turns)
		for _, a := range all {
			a.stop()
		}
		running.Wait()
		require.Empty(t, m.leases)
	})
}

// What the clock of a machine says does not matter, nor that PostgreSQL's is set while all run.
func TestClocks(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{-24 * time.Hour, 24 * time.Hour, 100 * 365 * 24 * time.Hour} {
		for _, step := range []time.Duration{-time.Second, time.Second, time.Hour, 24 * time.Hour} {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory(12)
				m.ahead = ahead
				var running sync.WaitGroup
				a, b := m.start("a", ttl, &running), m.start("b", ttl, &running)
				time.Sleep(2 * ttl)
				m.mu.Lock()
				m.ahead += step
				m.mu.Unlock()
				time.Sleep(3 * ttl) // which lets leases run out by a step ahead
				least, most, held := m.spread()
				require.Equal(t, []int{6, 6, 12}, []int{least, most, held}, "%s, %s", ahead, step)
				m.took()
				time.Sleep(20 * ttl)
				moves, _, _ := m.took()
				require.Zero(t, moves)
				a.stop()
				b.stop()
				running.Wait()
			})
		}
	}
}

const ttl = 5 * time.Second

// While answers take long nothing moves.
func TestSlowAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(12)
		var running sync.WaitGroup
		var all []*actor
		for i := range 3 {
			all = append(all, m.start(fmt.Sprint(i), ttl, &running))
		}
		time.Sleep(2 * ttl)
		least, most, held := m.spread()
		require.Equal(t, []int{4, 4, 12}, []int{least, most, held})
		moved := func() (by []map[string]int64) {
			for _, a := range all {
				by = append(by, a.Figures().Moves)
			}
			return by
		}
		before := moved()
		m.mu.Lock()
		m.slow = ttl * 4 / 10
		m.mu.Unlock()
		time.Sleep(100 * ttl)
		require.Equal(t, before, moved())
		for _, a := range all {
			a.stop()
		}
		running.Wait()
	})
}

// One statement for each instance and third of the time, whatever the number of sources.
func TestLoadOfCoordination(t *testing.T) {
	t.Parallel()
	for _, sources := range []int{12, 64, 1000} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory(sources)
			var running sync.WaitGroup
			var all []*actor
			for i := range 5 {
				all = append(all, m.start(fmt.Sprint(i), ttl, &running))
			}
			time.Sleep(2 * ttl)
			m.took()
			time.Sleep(20 * ttl)
			_, turns, _ := m.took()
			require.LessOrEqual(t, turns, 5*20*3)
			require.Greater(t, turns, 5*20*3-20)
			for _, a := range all {
				a.stop()
			}
			running.Wait()
		})
	}
}
