package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"aggregator/internal/cluster"
	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

// crew are instances on one database, as the role of the daemon.
type crew struct {
	t       *testing.T
	url     string
	pool    *pgxpool.Pool // the superuser's
	group   cluster.Group
	sources []string
	ttl     time.Duration
	all     []*instance
}

// instance is a keeper, with somebody who works on each of its sources.
type instance struct {
	*cluster.Keeper
	sources []string
	proxy   *proxy
	stop    context.CancelFunc
	ended   chan struct{}
	err     error // once it has ended
	works   []atomic.Bool
	changes atomic.Int64 // how often anybody began to work
	unable  atomic.Bool
}

// ttl is for tests that wait for it to be over. On a busy machine a shorter one would be over by itself.
const ttl = 6 * time.Second

func newCrew(t *testing.T, sources int) *crew {
	t.Helper()
	t.Parallel()
	u := testenv.Database(t)
	c := &crew{
		t: t, url: testenv.As(t, u, "aggregator_daemon"), group: cluster.Group{"stream", "likes", sources},
		sources: names("likes", sources), ttl: ttl,
	}
	var err error
	c.pool, err = postgres.Open(t.Context(), postgres.Options{URL: u, MaxConns: 4})
	require.NoError(t, err)
	t.Cleanup(c.pool.Close)
	return c
}

// start starts an instance, and says no more of it than that.
func (c *crew) start(name string) *instance {
	c.t.Helper()
	i := &instance{
		sources: c.sources, proxy: newProxy(c.t, c.url), ended: make(chan struct{}),
		works: make([]atomic.Bool, len(c.sources)),
	}
	pool, err := postgres.Open(c.t.Context(), postgres.Options{URL: i.proxy.url, MaxConns: 1})
	require.NoError(c.t, err)
	pool.Close()
	i.Keeper = cluster.New(pool.Config(), cluster.Options{
		Name: name, Version: "v1", TTL: c.ttl, Group: c.group, Sources: c.sources,
		Log: slog.New(slog.NewTextHandler(c.t.Output(), nil)).With("me", name),
		Able: func(context.Context) error {
			if i.unable.Load() {
				return errors.New("no answer")
			}
			return nil
		},
	})
	ctx, stop := context.WithCancel(c.t.Context())
	i.stop = stop
	var workers sync.WaitGroup
	for n, source := range c.sources {
		workers.Go(func() { i.work(ctx, source, &i.works[n]) })
	}
	go func() {
		defer close(i.ended)
		i.err = i.Run(ctx)
		stop()
		workers.Wait()
	}()
	c.all = append(c.all, i)
	c.t.Cleanup(func() {
		i.proxy.let(true)
		i.leave()
	})
	return i
}

func (i *instance) work(ctx context.Context, source string, works *atomic.Bool) {
	for ctx.Err() == nil {
		now := i.Ask(ctx, source)
		if now.Hold == nil {
			select {
			case <-ctx.Done():
			case <-now.Changed:
			}
			continue
		}
		works.Store(true)
		i.changes.Add(1)
		<-now.Hold.Context().Done()
		time.Sleep(rand.N(20 * time.Millisecond)) // the chunk in hand
		works.Store(false)
		now.Hold.Done()
	}
}

// leave stops the instance as a signal does.
func (i *instance) leave() {
	i.stop()
	<-i.ended
}

// has are the sources that somebody of the instance works on.
func (i *instance) has() []string {
	var all []string
	for n := range i.works {
		if i.works[n].Load() {
			all = append(all, i.sources[n])
		}
	}
	return all
}

// shared waits until the instances work on so many sources each, in any order, and each source has
// one that works on it.
func (c *crew) shared(want map[*instance]int) {
	c.t.Helper()
	eventually(c.t, func() bool {
		workers := make(map[string]int)
		for i, n := range want {
			has := i.has()
			if len(has) != n {
				return false
			}
			for _, source := range has {
				workers[source]++
			}
		}
		for _, n := range workers {
			if n != 1 {
				return false
			}
		}
		return len(workers) == len(c.sources)
	})
}

// balanced waits until the instances share the sources as evenly as can be.
func (c *crew) balanced(instances ...*instance) {
	c.t.Helper()
	eventually(c.t, func() bool {
		low, high, sum := len(c.sources), 0, 0
		for _, i := range instances {
			n := len(i.has())
			low, high, sum = min(low, n), max(high, n), sum+n
		}
		return sum == len(c.sources) && high-low <= 1
	})
}

func (c *crew) exec(sql string, args ...any) {
	c.t.Helper()
	_, err := c.pool.Exec(c.t.Context(), sql, args...)
	require.NoError(c.t, err)
}

func (c *crew) number(sql string) (n int) {
	c.t.Helper()
	require.NoError(c.t, c.pool.QueryRow(c.t.Context(), sql).Scan(&n))
	return n
}

// eventually waits for minutes: a busy machine may be that slow.
func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 3*time.Minute, 10*time.Millisecond)
}

// proxy stands before PostgreSQL: it may hold back what goes either way.
type proxy struct {
	url  string
	gate sync.RWMutex // held while nothing passes
	shut bool
}

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	to, err := url.Parse(server)
	require.NoError(t, err)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	p := &proxy{}
	next := to.Host
	to.Host = listener.Addr().String()
	p.url = to.String()
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			backend, err := new(net.Dialer).DialContext(context.Background(), "tcp", next)
			if err != nil {
				_ = client.Close()
				continue
			}
			go p.pass(client, backend)
			go p.pass(backend, client)
		}
	}()
	return p
}

func (p *proxy) pass(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		p.gate.RLock()
		_, failed := to.Write(buffer[:n])
		p.gate.RUnlock()
		if errors.Join(err, failed) != nil {
			return
		}
	}
}

// let lets everything pass, or nothing.
func (p *proxy) let(pass bool) {
	switch {
	case pass && p.shut:
		p.gate.Unlock()
	case !pass && !p.shut:
		p.gate.Lock()
	}
	p.shut = !pass
}

// Instances share the sources as they come and go: one that joins gets its share of all others, one
// that leaves hands over to all, and nothing moves among those that stay.
func TestJoinAndLeave(t *testing.T) {
	for _, sources := range []int{1, 12, 64} {
		t.Run(fmt.Sprint(sources), func(t *testing.T) {
			c := newCrew(t, sources)
			c.ttl = cluster.Longest // it must not be what hands over
			a := c.start("a")
			c.shared(map[*instance]int{a: sources})
			there := []*instance{a}
			for _, name := range []string{"c", "b", "d"} {
				was := c.holdings(there)
				there = append(there, c.start(name))
				c.balanced(there...)
				c.moved(was, ceil(sources, len(there)))
			}
			eventually(t, func() bool { // with one source the last ones may still be on their way
				return c.number(`SELECT count(*) FROM aggregator.member WHERE version = 'v1' AND source_key = 'likes'`) == 4
			})
			for len(there) > 1 {
				was := c.holdings(there[1:])
				gone := len(there[0].has())
				there[0].leave()
				there = there[1:]
				c.balanced(there...)
				require.Equal(t, gone, c.moved(was, ceil(sources, len(there)+1)))
			}
			there[0].leave()
			require.Zero(t, c.number(`SELECT count(*) FROM aggregator.member`))
			require.Zero(t, c.number(`SELECT count(*) FROM aggregator.lease`))
			for _, i := range c.all {
				require.NoError(t, i.err)
				f := i.Figures()
				for _, reason := range []string{cluster.MoveExpired, cluster.MoveReturned, cluster.MoveLost, cluster.MoveLapsed} {
					require.Zero(t, f.Moves[reason], reason)
				}
				require.Equal(t, f.Moves[cluster.MoveFree], f.Moves[cluster.MoveSurplus]+f.Moves[cluster.MoveLeaving])
			}
		})
	}
}

// holdings are what instances have, and how often they began to.
func (c *crew) holdings(instances []*instance) map[*instance][]string {
	was := make(map[*instance][]string)
	for _, i := range instances {
		was[i] = i.has()
	}
	return was
}

// moved says how many sources went to or from those that were there, which is at most so many, and
// that none went from one of them to another.
func (c *crew) moved(was map[*instance][]string, most int) (moved int) {
	c.t.Helper()
	for i, before := range was {
		now := i.has()
		for _, source := range now {
			if slices.Contains(before, source) {
				continue
			}
			moved++
			for other, had := range was {
				require.False(c.t, other != i && slices.Contains(had, source), "%s went from one that stays to another", source)
			}
		}
		for _, source := range before {
			if !slices.Contains(now, source) {
				moved++
			}
		}
	}
	require.LessOrEqual(c.t, moved, most)
	return moved
}

// An instance that is cut off stops by itself, and others take what it had. When it comes back it
// gets its share of what there is.
func TestCutOff(t *testing.T) {
	testenv.Long(t)
	for _, sources := range []int{12, 64} {
		t.Run(fmt.Sprint(sources), func(t *testing.T) {
			c := newCrew(t, sources)
			a, b, d := c.start("a"), c.start("b"), c.start("d")
			c.balanced(a, b, d)
			had := len(a.has())
			a.proxy.let(false)
			eventually(t, func() bool { return len(a.has()) == 0 })
			c.balanced(b, d)
			require.EqualValues(t, had, a.Figures().Moves[cluster.MoveLapsed])
			require.EqualValues(t, had, b.Figures().Moves[cluster.MoveExpired]+d.Figures().Moves[cluster.MoveExpired])
			a.proxy.let(true)
			c.balanced(a, b, d)
		})
	}
}

// A named instance that was killed and is started again takes its own sources back; the others'
// stay. A second one of the name is refused.
func TestNamed(t *testing.T) {
	testenv.Long(t)
	c := newCrew(t, 12)
	c.ttl = 20 * time.Second
	a, b := c.start("a"), c.start("b")
	c.balanced(a, b)
	own, theirs, changes := a.has(), b.has(), b.changes.Load()
	second := c.start("a")
	<-second.ended
	require.ErrorIs(t, second.err, cluster.ErrNameTaken)
	require.ErrorContains(t, second.err, "another instance has this name: a, seen at 2")
	require.Equal(t, own, a.has())

	a.proxy.let(false) // it is gone
	again := c.start("a")
	c.balanced(again, b)
	require.Equal(t, own, again.has())
	require.EqualValues(t, len(own), again.Figures().Moves[cluster.MoveReturned])
	require.Equal(t, theirs, b.has())
	require.Equal(t, changes, b.changes.Load())

	a.proxy.let(true) // it was not: it is the second one now
	<-a.ended
	require.ErrorIs(t, a.err, cluster.ErrNameTaken)
	require.Equal(t, own, again.has())
}

// What an instance has that cannot work goes to those that can, and comes back. If none can, all
// stays where it is.
func TestUnable(t *testing.T) {
	testenv.Long(t)
	c := newCrew(t, 12)
	c.ttl = 3 * time.Second
	a, b, d := c.start("a"), c.start("b"), c.start("d")
	c.balanced(a, b, d)
	a.unable.Store(true)
	eventually(t, func() bool { return len(a.has()) == 0 })
	c.balanced(b, d)
	require.EqualValues(t, 4, a.Figures().Moves[cluster.MoveUnable])
	a.unable.Store(false)
	c.balanced(a, b, d)

	for _, i := range c.all {
		i.unable.Store(true)
	}
	eventually(t, func() bool {
		return c.number(`SELECT count(*) FROM aggregator.member WHERE draining`) == 3
	})
	time.Sleep(3 * c.ttl)
	c.balanced(a, b, d)
	require.EqualValues(t, 4, a.Figures().Moves[cluster.MoveUnable])
}

// A program that knows no members takes what is free, and keeps it. It counts as one.
func TestBesideAnOldProgram(t *testing.T) {
	c := newCrew(t, 12)
	acquire := func(sources ...string) {
		for _, source := range sources {
			held, err := cluster.Acquire(t.Context(), c.pool, source, "old", time.Minute)
			require.NoError(t, err)
			require.Equal(t, "old", held.Holder)
		}
	}
	acquire(c.sources...)
	a := c.start("a")
	eventually(t, func() bool { return a.Figures().Members == 2 })
	require.Empty(t, a.has())
	for _, source := range c.sources[3:] { // it has more than its share, and gives up some
		require.NoError(t, cluster.Release(t.Context(), c.pool, source, "old"))
	}
	eventually(t, func() bool { return len(a.has()) == 6 })
	acquire(c.sources[:3]...)
	b := c.start("b")
	eventually(t, func() bool { return len(a.has()) == 4 && len(b.has()) == 4 })
	c.exec(`DELETE FROM aggregator.lease WHERE holder = 'old'`)
	c.balanced(a, b)
}

// Instances with another number of partitions share some of the sources, and get in nobody's way.
func TestBesideAnotherGroup(t *testing.T) {
	c := newCrew(t, 12)
	few := *c
	few.sources, few.group.Partitions = c.sources[:5], 5
	x := few.start("x")
	few.shared(map[*instance]int{x: 5})
	a, b := c.start("a"), c.start("b")
	eventually(t, func() bool { return len(a.has())+len(b.has()) == 7 })
	require.Len(t, x.has(), 5)
	x.leave()
	c.balanced(a, b)
}

// It does not matter how a row gets lost, or that a holder was ahead of its time.
func TestRowsAreLost(t *testing.T) {
	testenv.Long(t)
	c := newCrew(t, 12)
	a, b := c.start("a"), c.start("b")
	c.balanced(a, b)
	for _, sql := range []string{
		`DELETE FROM aggregator.member`, `DELETE FROM aggregator.lease`, `TRUNCATE aggregator.lease, aggregator.member`,
		`UPDATE aggregator.lease SET holder = 'dead', expires_at = now() + interval '2 hours'`,
		`UPDATE aggregator.member SET expires_at = now() + interval '2 hours'`,
		`UPDATE aggregator.member SET expires_at = now() - interval '1 day';
			UPDATE aggregator.lease SET expires_at = now() - interval '1 day'`,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
			AND pid <> pg_backend_pid() AND query LIKE '%aggregator.member%'`,
	} {
		c.exec(sql)
		time.Sleep(c.ttl / 3) // each has a turn
		c.balanced(a, b)
		require.NoError(t, c.pool.Ping(t.Context()))
	}
}

// A keeper that never reached PostgreSQL ends at once, and one whose time is over without it says why.
func TestWithoutPostgres(t *testing.T) {
	c := newCrew(t, 12)
	c.ttl = 3 * time.Second
	a := c.start("a")
	c.shared(map[*instance]int{a: 12})
	a.proxy.let(false)
	eventually(t, func() bool { return len(a.has()) == 0 })
	standing := a.Ask(t.Context(), c.sources[0])
	require.Nil(t, standing.Hold)
	require.Error(t, standing.Err)
	b := c.start("b")
	c.shared(map[*instance]int{b: 12})
	a.leave() // within the time that it has for a last word
	require.NoError(t, a.err)
	require.Len(t, b.has(), 12)

	none := cluster.New(pgxConfig(t, "postgres://127.0.0.1:1/none?sslmode=disable"), cluster.Options{
		Name: "x", TTL: time.Second, Sources: []string{"s"}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- none.Run(ctx) }()
	eventually(t, func() bool { return none.Ask(ctx, "s").Err != nil })
	stop()
	require.NoError(t, <-ended)
}

// A member that is gone is listed for a day.
func TestMembersAreForgotten(t *testing.T) {
	c := newCrew(t, 1)
	for name, ago := range map[string]string{"yesterday": "23 hours", "before": "25 hours"} {
		c.exec(`INSERT INTO aggregator.member (instance, token, started_at, seen_at, expires_at, draining) VALUES ($1, '', `+
			`now(), now(), now() - $2::interval, false)`, name, ago)
	}
	a := c.start("a")
	c.shared(map[*instance]int{a: 1})
	members, now, err := cluster.Members(t.Context(), c.pool)
	require.NoError(t, err)
	require.Len(t, members, 2)
	require.Equal(t, "a", members[0].Instance)
	require.True(t, members[0].Lives(now))
	require.Equal(t, "yesterday", members[1].Instance)
	require.False(t, members[1].Lives(now))
}

func pgxConfig(t *testing.T, url string) *pgxpool.Config {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	return config
}

func names(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return all
}

func ceil(a, b int) int { return (a + b - 1) / b }
