//go:build faults

package faults_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
	"aggregator/internal/testenv/disk"
)

// A sync of Redis takes so long that most power losses come in the midst of one.
const (
	postgresSync = time.Millisecond
	redisSync    = 25 * time.Millisecond
)

// forgetful makes a PostgreSQL have much that is not synced at any time: asynchronous commits
// stay in its memory, and it writes pages all the time.
var forgetful = []testenv.PostgresOption{
	testenv.Durable(),
	testenv.Setting("wal_writer_delay", "10s"), testenv.Setting("wal_writer_flush_after", "64MB"),
	testenv.Setting("shared_buffers", "24MB"), testenv.Setting("checkpoint_timeout", "30s"),
	testenv.Setting("min_wal_size", "32MB"), testenv.Setting("max_wal_size", "64MB"),
	testenv.Setting("bgwriter_delay", "10ms"), testenv.Setting("bgwriter_lru_maxpages", "1000"),
}

// careful is how a Redis is set up that keeps what it has acknowledged through a power loss:
// it does not start on a file that was torn, which redis-check-aof then mends.
var careful = []string{"--aof-load-truncated", "no", "--auto-aof-rewrite-min-size", "300kb"}

// outage says what loses its power, and under what.
type outage struct {
	source
	postgres, redis bool
	settings        []testenv.PostgresOption // in addition
	arguments       []string                 // of Redis, in place of careful
	lies            bool                     // the disk does, of each sync
	kept            bool                     // all that was written survives
	nothing         bool                     // nothing that was not synced survives
}

// powered is a world with servers whose data is on disks that forget.
type powered struct {
	*world
	outage
	postgresDisk, redisDisk *disk.Disk
	rng                     *rand.Rand
	daemons                 []*daemon
	onPostgres, onRedis     disk.Loss
	losses, killed, mended  int
}

func TestPowerLossPostgres(t *testing.T) { losePower(t, outage{postgres: true}, stream, listLeft) }

func TestPowerLossRedis(t *testing.T) { losePower(t, outage{redis: true}, stream, listLeft) }

// TestPowerLossRedisTruncates is of a Redis that starts by itself on a file that was torn, as is its default. A
// list may lose or repeat events then: see TestAppendOnlyFileCut of internal/events.
func TestPowerLossRedisTruncates(t *testing.T) {
	losePower(t, outage{redis: true, arguments: []string{
		"--aof-load-truncated", "yes", "--auto-aof-rewrite-min-size", "300kb",
	}}, stream)
}

// TestPowerLossBoth is of both at the same moment.
func TestPowerLossBoth(t *testing.T) {
	losePower(t, outage{postgres: true, redis: true}, stream, listLeft)
}

// losePower takes the power away as often as LOSSES says, under load, then lets the daemons
// finish and compares everything. POWER_SEED repeats what was chosen at random.
func losePower(t *testing.T, o outage, sources ...source) {
	t.Parallel()
	losses, err := strconv.Atoi(cmp.Or(os.Getenv("LOSSES"), "6"))
	require.NoError(t, err, "LOSSES")
	for _, from := range sources {
		t.Run(from.String(), func(t *testing.T) {
			t.Parallel()
			o := o
			o.source = from
			p := newPowered(t, o)
			p.suffer(losses)
			p.emptied()
			for _, d := range p.daemons {
				d.stop()
			}
			books := p.start("verify")
			require.Zero(t, books.wait(), "%s", books.tail())
			p.print(p.finish())
		})
	}
}

func newPowered(t *testing.T, o outage) *powered {
	t.Helper()
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("POWER_SEED"), fmt.Sprint(rand.Uint64())), 10, 64)
	require.NoError(t, err, "POWER_SEED")
	t.Logf("POWER_SEED=%d", seed)
	p := &powered{outage: o, rng: rand.New(rand.NewPCG(seed, 0)), daemons: make([]*daemon, 2)}
	s := setup{source: o.source}
	if o.postgres {
		p.postgresDisk = disk.New(t)
		s.postgres = slices.Concat(
			forgetful, o.settings, []testenv.PostgresOption{testenv.PostgresIn(p.postgresDisk.Folder())})
	}
	if o.redis {
		p.redisDisk = disk.New(t)
		arguments := o.arguments
		if arguments == nil {
			arguments = careful
		}
		s.redis = []testenv.RedisOption{testenv.RedisIn(p.redisDisk.Folder()), testenv.RedisArgs(arguments...)}
	}
	p.world = newWorld(t, s)
	for d, delay := range p.disks() {
		t.Cleanup(d.Fail) // so that the servers can be ended, whatever comes
		d.Sync()
		d.SetDelay(delay)
		if o.lies {
			d.Lie()
		}
	}
	return p
}

// disks are those that lose their power, with how long they need for a sync.
func (p *powered) disks() map[*disk.Disk]time.Duration {
	disks := map[*disk.Disk]time.Duration{}
	if p.outage.postgres {
		disks[p.postgresDisk] = postgresSync
	}
	if p.outage.redis {
		disks[p.redisDisk] = redisSync
	}
	return disks
}

// suffer loses the power so often, with a chunk applied before each loss. Two daemons run, which
// are started again as systemd would.
func (p *powered) suffer(losses int) {
	p.t.Helper()
	stop := p.loadOn()
	defer stop()
	for ; p.losses < losses; p.losses++ {
		p.revive()
		before := p.applied()
		p.until("a chunk is applied", func() bool { p.revive(); return p.applied() > before })
		time.Sleep(time.Duration(p.rng.Int64N(int64(600 * time.Millisecond)))) // any moment
		p.lose()
	}
	p.revive()
}

// loadOn pushes, 600 events a second, until it is told to stop.
func (p *powered) loadOn() (stop func()) {
	ctx, cancel := context.WithCancel(p.t.Context())
	var pushing sync.WaitGroup
	pushing.Go(func() {
		for ctx.Err() == nil {
			push := p.pushing(ctx, 0, "--rate", "600", "--duration", "5m",
				"--continue-on-error", "--pipeline", "16", "--timeout", "1s")
			push.Cancel = func() error { return push.Process.Signal(syscall.SIGTERM) } // it finishes what it has sent
			if push.Run() != nil {                                                     // there is no Redis to begin with
				time.Sleep(50 * time.Millisecond)
			}
		}
	})
	return func() {
		cancel()
		pushing.Wait()
	}
}

func (p *powered) revive() {
	p.t.Helper()
	for i, d := range p.daemons {
		if d != nil && d.running() {
			continue
		}
		if d != nil {
			code := d.cmd.ProcessState.ExitCode()
			require.Contains(p.t, []int{-1, 0, 69}, code, "%s", d.tail())
			_ = os.Remove(d.log)
		}
		p.daemons[i] = p.start("run", "AGGREGATOR_LOG_LEVEL=warn")
	}
}

// applied is how many events are, or -1 while PostgreSQL does not answer.
func (p *powered) applied() int64 {
	return p.number("SELECT coalesce(sum(applied), 0)::bigint FROM aggregator.mark")
}

// lose is one power loss. Now and then a daemon goes with it.
func (p *powered) lose() {
	p.t.Helper()
	for d := range p.disks() {
		d.Freeze()
	}
	if d := p.daemons[p.rng.IntN(len(p.daemons))]; d != nil && p.rng.IntN(4) == 0 {
		d.kill()
		p.killed++
	}
	if p.outage.postgres {
		require.NoError(p.t, p.world.postgres.CutOff(p.postgresDisk.Fail))
	}
	if p.outage.redis {
		require.NoError(p.t, p.world.redis.CutOff(p.redisDisk.Fail))
	}
	var onPostgres, onRedis disk.Loss
	if p.outage.postgres {
		onPostgres = p.forget(p.postgresDisk, disk.Pages)
		p.onPostgres.Add(onPostgres)
		// It may name a process that is now another's, or nobody's, or be empty.
		err := os.Remove(filepath.Join(p.postgresDisk.Folder(), "data", "postmaster.pid"))
		require.True(p.t, err == nil || os.IsNotExist(err), "%v", err)
	}
	if p.outage.redis {
		onRedis = p.forget(p.redisDisk, disk.Prefix)
		p.onRedis.Add(onRedis)
		p.mend()
	}
	time.Sleep(time.Duration(p.rng.Int64N(int64(500 * time.Millisecond)))) // the outage
	require.NoError(p.t, p.world.postgres.Start(p.t.Context()))
	require.NoError(p.t, p.world.redis.Start(p.t.Context()))
	p.t.Logf("loss %d: PostgreSQL: %s; Redis: %s; %d files mended so far", p.losses+1, onPostgres, onRedis, p.mended)
}

// forget decides what is left on a disk. A quarter of the losses leave nothing that was not synced.
func (p *powered) forget(d *disk.Disk, survival disk.Survival) disk.Loss {
	p.t.Helper()
	if p.nothing || p.rng.IntN(4) == 0 {
		survival = disk.Nothing
	}
	if p.kept {
		d.Sync()
	}
	loss, err := d.Lose(survival, p.rng)
	require.NoError(p.t, err)
	return loss
}

// mend cuts the append-only file of Redis back to its last whole command, or transaction.
func (p *powered) mend() {
	p.t.Helper()
	if p.arguments != nil {
		return
	}
	manifest := filepath.Join(p.redisDisk.Folder(), "appendonlydir", "appendonly.aof.manifest")
	check := exec.CommandContext(p.t.Context(), "redis-check-aof", "--fix", manifest)
	check.Stdin = strings.NewReader("y\n")
	said, err := check.CombinedOutput()
	require.NoError(p.t, err, "%s", said)
	if strings.Contains(string(said), "Successfully truncated") {
		p.mended++
	}
}

// print writes the row of docs/reliability.md.
func (p *powered) print(r report) {
	fmt.Printf("%s: %d losses, %d daemons killed with them; %s; found of unknown outcome %d\n",
		p.t.Name(), p.losses, p.killed, r, r.Applied+r.Dead-r.Pushed)
	if p.outage.postgres {
		fmt.Printf("%s: PostgreSQL: %s\n", p.t.Name(), p.onPostgres)
	}
	if p.outage.redis {
		fmt.Printf("%s: Redis: %s; %d files mended\n", p.t.Name(), p.onRedis, p.mended)
	}
}

// TestControlsOfPowerLoss takes away what lets a server keep its word through a power loss. The
// suite must find lost events each time; and none if the servers are killed in the same way but
// all that they wrote survives.
func TestControlsOfPowerLoss(t *testing.T) {
	for _, control := range []struct {
		name string
		outage
	}{
		{"fsync=off", outage{postgres: true, settings: []testenv.PostgresOption{testenv.Setting("fsync", "off")}}},
		{"a disk that lies under PostgreSQL", outage{postgres: true, lies: true}},
		{"a disk that lies under Redis", outage{redis: true, lies: true}},
		{"appendfsync everysec", outage{redis: true, arguments: []string{"--appendfsync", "everysec"}}},
	} {
		o := control.outage
		o.source, o.nothing = stream, true
		t.Run(control.name, func(t *testing.T) {
			for round := range 5 { // a sync of everysec may have come just in time
				r := o.reveal(t)
				t.Logf("round %d: %s", round+1, r)
				if r.Lost > 0 {
					require.False(t, r.OK)
					return
				}
			}
			t.Fatal("the suite does not find out that events are lost")
		})
		if o.arguments != nil {
			continue // while a sync takes its time, everysec puts off the write itself, which a kill loses, too
		}
		t.Run(control.name+", killed only", func(t *testing.T) {
			o.kept = true
			r := o.reveal(t)
			t.Log(r)
			require.True(t, r.OK, "%s", r.text)
		})
	}
}

// reveal loses the power once: of PostgreSQL when all is applied and trimmed, of Redis when
// nothing is.
func (o outage) reveal(t *testing.T) report {
	t.Helper()
	p := newPowered(t, o)
	if o.postgres {
		p.push(2000)
		p.drain()
		p.push(100)
	} else {
		p.push(2000)
	}
	p.lose()
	p.start("drain").wait() // it may complain
	return p.compare()
}
