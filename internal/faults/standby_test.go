//go:build faults

package faults_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// impatience makes the daemon give a server up after 3 s in place of 45 s, so that a test sees many
// of its attempts. The limits of its sessions are as much shorter.
var impatience = change{
	"internal/service/engine.go",
	"const serverTimeout = 45 * time.Second", "const serverTimeout = 3 * time.Second",
}

const impatientSession = "&lock_timeout=500ms&statement_timeout=2s"

// impatient is the daemon with impatience.
func impatient(t *testing.T) string {
	t.Helper()
	return weakening{changes: []change{impatience}}.build(t)
}

// followed is a world whose PostgreSQL has standbys. The daemons know the addresses of all.
type followed struct {
	*world
	standbys map[string]*testenv.PostgresServer
}

// newFollowed starts standbys of these names, and makes commits wait for those that synchronous
// says (synchronous_standby_names).
func newFollowed(t *testing.T, s setup, synchronous string, names ...string) followed {
	t.Helper()
	if s.postgres == nil {
		s.postgres = own
	}
	r := followed{newWorld(t, s), map[string]*testenv.PostgresServer{}}
	hosts := []string{r.host()}
	for _, name := range names {
		r.standbys[name] = testenv.NewStandby(t, r.postgres, name)
		hosts = append(hosts, hostOf(t, r.standbys[name].URL("app")))
	}
	require.NoError(t, r.postgres.Configure(t.Context(), "synchronous_standby_names", synchronous))
	r.postgresURL = strings.Replace(r.postgresURL, hosts[0], strings.Join(hosts, ","), 1)
	r.postgresURL += "&target_session_attrs=read-write"
	if s.program != "" {
		r.postgresURL += impatientSession
	}
	return r
}

func (w *world) host() string { return hostOf(w.t, w.database) }

func hostOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	return u.Host
}

// takeOver loses the primary for good and makes a standby the server of this world.
func (w *world) takeOver(standby *testenv.PostgresServer) {
	w.t.Helper()
	require.NoError(w.t, w.postgres.Crash())
	require.NoError(w.t, standby.Start(w.t.Context()))
	_ = standby.Thaw()
	require.NoError(w.t, standby.Promote(w.t.Context()))
	w.postgres, w.database = standby, standby.URL("app")
}

// commitsWaiting counts the commits that wait for a standby.
func (w *world) commitsWaiting() int64 {
	return w.number("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
}

// untouched waits until each of the daemons has begun again so many times more, and checks all the
// while that Redis keeps its entries, and that no two commits wait: each would be a session of
// PostgreSQL that stays until the standby comes.
func (w *world) untouched(entries int64, times int, daemons ...*daemon) {
	w.t.Helper()
	for _, d := range daemons {
		before := d.begunAgain()
		w.until("the daemon has begun again", func() bool {
			require.True(w.t, d.running(), "%s", d.tail())
			require.Equal(w.t, entries, w.waiting(), "trimmed without the standby\n%s", d.tail())
			require.LessOrEqual(w.t, w.commitsWaiting(), int64(1))
			return d.begunAgain() >= before+times
		})
	}
}

// begunAgain counts the attempts of the daemon that have failed.
func (d *daemon) begunAgain() int {
	return strings.Count(d.output(), "retrying from the checkpoint")
}

// drained is the report of a drain.
type drained struct {
	Read          int64 `json:"read"`
	Applied       int64 `json:"applied"`
	Dead          int64 `json:"dead"`
	SettledBefore int64 `json:"settled_before"`
	Left          int64 `json:"left"`

	Incidents []struct {
		Kind     string `json:"kind"`
		Entries  int64  `json:"entries"`
		Retained int64  `json:"retained"`
		Lost     int64  `json:"lost"`
	} `json:"incidents"`
}

// report waits until a drain (with -o json) has ended well.
func (d *daemon) report() drained { return d.reportAfter(0) }

// reportAfter waits until a drain (with -o json) has ended with this code, and has left nothing.
func (d *daemon) reportAfter(code int) (r drained) {
	d.t.Helper()
	require.Equal(d.t, code, d.wait(), "%s", d.tail())
	said := "\n" + d.output()
	at := strings.LastIndex(said, "\n{\n")
	require.NotEqual(d.t, -1, at, "%s", d.tail())
	require.NoError(d.t, json.NewDecoder(strings.NewReader(said[at:])).Decode(&r), "%s", said[at:])
	require.Equal(d.t, r.Read, r.Applied+r.Dead+r.SettledBefore)
	require.Zero(d.t, r.Left)
	return r
}

// told runs a drain, which has to tell of one incident, of this kind, and to fail for it. The incident
// is accepted then.
func (w *world) told(kind string) drained {
	w.t.Helper()
	r := w.start("drain", "-o", "json").reportAfter(1)
	require.Len(w.t, r.Incidents, 1)
	require.Equal(w.t, kind, r.Incidents[0].Kind)
	accept := w.start("verify", "--accept")
	require.Zero(w.t, accept.wait(), "%s", accept.tail())
	books := w.start("verify")
	require.Zero(w.t, books.wait(), "%s", books.tail())
	return r
}

// TestStandbyTakesOver loses the primary when the daemon has waited for the synchronous standby for
// longer than it gives a server. What the standby does not have must still be in Redis.
func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	w := newFollowed(t, setup{}, "s1", "s1")
	w.push(5)
	w.drain()
	require.NoError(t, w.standbys["s1"].Stop())
	w.push(5)
	d := w.start("drain", "-o", "json")
	w.untouched(5, 2, d)

	w.takeOver(w.standbys["s1"])
	r := d.report()
	require.EqualValues(t, 5, r.Read)
	require.Zero(t, r.SettledBefore)
	require.EqualValues(t, 10, w.exact().Pushed)
}

// TestStandbyAway takes the synchronous standby away for many attempts of the daemon, and gives it
// back.
func TestStandbyAway(t *testing.T) {
	t.Parallel()
	kinds := map[string]struct{ leave, come func(w followed) error }{
		"stopped": {
			func(w followed) error { return w.standbys["s1"].Stop() },
			func(w followed) error { return w.standbys["s1"].Start(w.t.Context()) },
		},
		"frozen": {
			func(w followed) error { return w.standbys["s1"].Freeze() },
			func(w followed) error { return w.standbys["s1"].Thaw() },
		},
		"never there": {
			func(w followed) error {
				return w.postgres.Configure(w.t.Context(), "synchronous_standby_names", "s2")
			},
			func(w followed) error {
				testenv.NewStandby(w.t, w.postgres, "s2")
				return nil
			},
		},
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newFollowed(t, setup{program: impatient(t)}, "s1", "s1")
			w.push(500)
			w.drain()
			w.push(900)
			d := w.pauseAt("before_checkpoint", "drain", "-o", "json") // the first chunk is applied
			require.NoError(t, kind.leave(w))
			d.goOn()
			service := w.start("run", "AGGREGATOR_HTTP_ADDR=127.0.0.1:0", "AGGREGATOR_SHUTDOWN_GRACE=1s")
			w.untouched(900, 4, d.daemon, service)

			code, answer := service.asked("/readyz")
			require.Equal(t, http.StatusServiceUnavailable, code, answer)
			require.Contains(t, answer, "backing off")
			code, answer = service.asked("/healthz")
			require.Equal(t, http.StatusOK, code, answer)
			require.Less(t, measure(service.stop), 20*time.Second) // after its grace of a second
			limited := w.start("drain", "--max-duration", "1s")
			require.Equal(t, 75, limited.wait(), "%s", limited.tail())
			require.EqualValues(t, 900, w.waiting())

			require.NoError(t, kind.come(w))
			r := d.report()
			require.EqualValues(t, 900, r.Read)
			require.Zero(t, r.SettledBefore, "this drain has applied all")
			require.EqualValues(t, 1400, w.exact().Pushed)
			require.Zero(t, w.commitsWaiting())
		})
	}
}

// asked asks the daemon at its http.addr.
func (d *daemon) asked(path string) (code int, answer string) {
	d.t.Helper()
	at := regexp.MustCompile(`listening http\.addr=(\S+)`).FindStringSubmatch(d.output())
	require.NotNil(d.t, at, "%s", d.tail())
	reply, err := http.Get("http://" + at[1] + path) //nolint:noctx // of a test
	require.NoError(d.t, err)
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	require.NoError(d.t, err)
	return reply.StatusCode, string(body)
}

// waitEnd is what ends the wait of a commit for a standby: from then on the commit can be seen on
// the primary, and is not on the standby.
type waitEnd struct {
	name   string
	before []string // run in the database at first
	end    func(w followed)
}

var waitEnds = []waitEnd{
	cancelled,
	{
		"cancelled, warnings not sent",
		[]string{"ALTER DATABASE app SET client_min_messages = error"},
		func(w followed) { w.eachWaiting("pg_cancel_backend") },
	},
	{"terminated", nil, func(w followed) { w.eachWaiting("pg_terminate_backend") }},
	restarted,
}

var (
	// givenUp leaves the wait to the daemon's time-out.
	givenUp   = waitEnd{"given up", nil, func(followed) {}}
	cancelled = waitEnd{"cancelled", nil, func(w followed) { w.eachWaiting("pg_cancel_backend") }}
	restarted = waitEnd{"restarted", nil, func(w followed) { w.crash() }}
)

// eachWaiting calls a function for each backend whose commit waits for a standby.
func (w *world) eachWaiting(function string) {
	w.t.Helper()
	w.sql("SELECT " + function + "(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
}

// TestStandbyWaitEnds ends the daemon's wait for a standby, again and again, and then has the
// standby take over.
func TestStandbyWaitEnds(t *testing.T) {
	t.Parallel()
	for _, how := range waitEnds {
		t.Run(how.name, func(t *testing.T) {
			t.Parallel()
			w, d := endWaits(t, how, impatient(t))
			w.untouched(900, 1, d)
			w.takeOver(w.standbys["s1"])
			d.report()
			require.EqualValues(t, 1400, w.exact().Pushed)
		})
	}
}

// endWaits stops the standby while a drain has a chunk in hand, and ends the waits of the drain until
// it has begun again three times, or has ended.
func endWaits(t *testing.T, how waitEnd, program string) (followed, *daemon) {
	t.Helper()
	w := newFollowed(t, setup{program: program}, "s1", "s1")
	w.sql(how.before...)
	w.push(500)
	w.drain()
	w.push(900)
	d := w.pauseAt("before_checkpoint", "drain", "-o", "json")
	require.NoError(t, w.standbys["s1"].Stop())
	d.goOn()
	w.until("the daemon has begun again, or has ended", func() bool {
		if w.commitsWaiting() > 0 {
			how.end(w)
		}
		return d.begunAgain() >= 3 || !d.running()
	})
	return w, d.daemon
}

// loseWhatWasSeen is endWaits with a weakened daemon, then the standby takes over, and what is left in
// Redis is drained.
func loseWhatWasSeen(t *testing.T, how waitEnd, program string) report {
	t.Helper()
	w, d := endWaits(t, how, program)
	d.kill()
	w.takeOver(w.standbys["s1"])
	w.start("drain").wait() // it may complain
	return w.compare()
}

// TestStandbyDaemonKilled kills the daemon while its commit waits for the standby, and lets two others
// find the commit: not visible at first, then visible and not on the standby.
func TestStandbyDaemonKilled(t *testing.T) {
	t.Parallel()
	for name, finish := range map[string]func(w followed){
		"standby comes back": func(w followed) { require.NoError(w.t, w.standbys["s1"].Start(w.t.Context())) },
		"standby takes over": func(w followed) { w.takeOver(w.standbys["s1"]) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newFollowed(t, setup{program: impatient(t)}, "s1", "s1")
			w.push(500)
			w.drain()
			w.push(900)
			killed := w.pauseAt("before_checkpoint", "run")
			require.NoError(t, w.standbys["s1"].Stop())
			killed.goOn()
			w.until("a commit waits", func() bool { return w.commitsWaiting() == 1 })
			killed.kill()

			first, second := w.start("drain", "-o", "json"), w.start("drain", "-o", "json")
			w.untouched(900, 2, first, second)
			w.eachWaiting("pg_cancel_backend")
			w.untouched(900, 2, first, second)
			finish(w)
			first.report()
			second.report()
			require.EqualValues(t, 1400, w.exact().Pushed)
		})
	}
}

// TestStandbyThatLags has a standby take over that no commit waits for, without the last events: each is
// applied by what trim.retain has kept in Redis, or told of as lost.
func TestStandbyThatLags(t *testing.T) {
	t.Parallel()
	for _, retain := range []string{"0s", "1h"} {
		for _, from := range []source{stream, listLeft} {
			t.Run("trim.retain "+retain+", "+from.String(), func(t *testing.T) {
				t.Parallel()
				w := newFollowed(t, setup{source: from, env: []string{"AGGREGATOR_TRIM_RETAIN=" + retain}}, "", "s1")
				w.push(500)
				w.drain()
				require.NoError(t, w.postgres.CaughtUp(t.Context(), "s1"))
				require.NoError(t, w.standbys["s1"].Stop())
				w.push(900)
				w.drain()

				w.takeOver(w.standbys["s1"])
				w.push(300)
				r := w.told("postgres_set_back")
				require.EqualValues(t, 900, r.Incidents[0].Entries)
				if retain == "0s" {
					require.EqualValues(t, 300, r.Read)
					require.EqualValues(t, 900, r.Incidents[0].Lost)
					compared := w.compare()
					t.Log(compared)
					require.EqualValues(t, 900, compared.Lost)
					require.Zero(t, compared.Doubled)
					require.Empty(t, compared.Left)
					return
				}
				require.EqualValues(t, 1200, r.Read)
				require.EqualValues(t, 900, r.Incidents[0].Retained)
				require.Zero(t, r.Incidents[0].Lost)
				w.drain("AGGREGATOR_TRIM_RETAIN=0s")
				require.EqualValues(t, 1700, w.exact().Pushed)
			})
		}
	}
}

// TestStandbyQuorum drains for as long as enough of several standbys are there, and no longer.
func TestStandbyQuorum(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		synchronous string
		names       []string // in the order in which they go; all but the last two are not needed
		heir        string   // it has all
	}{
		{"ANY 2 (s1, s2, s3)", []string{"s3", "s2", "s1"}, "s1"},
		{"FIRST 1 (s1, s2)", []string{"s1", "s2"}, "s2"},
	} {
		t.Run(c.synchronous, func(t *testing.T) {
			t.Parallel()
			w := newFollowed(t, setup{program: impatient(t)}, c.synchronous, c.names...)
			w.push(500)
			w.drain()
			require.NoError(t, w.standbys[c.names[0]].Stop())
			w.push(500)
			w.drain() // there are enough

			require.NoError(t, w.standbys[c.names[1]].Stop())
			w.push(500)
			d := w.start("drain", "-o", "json")
			w.untouched(500, 3, d)
			w.takeOver(w.standbys[c.heir])
			require.EqualValues(t, 500, d.report().Read)
			require.EqualValues(t, 1500, w.exact().Pushed)
		})
	}
}

// TestStandbyRemoteApply configures commits to wait until the standby shows them, which it does
// not. What the daemon needs is that the standby has them.
func TestStandbyRemoteApply(t *testing.T) {
	t.Parallel()
	w := newFollowed(t, setup{}, "s1", "s1")
	for _, whose := range []string{"DATABASE app", "ROLE aggregator_daemon"} {
		w.sql("SET synchronous_commit = on", "ALTER "+whose+" SET synchronous_commit = remote_apply")
	}
	require.NoError(t, w.standbys["s1"].PauseReplay(t.Context()))
	w.push(900)
	w.drain()
	w.takeOver(w.standbys["s1"])
	w.push(500)
	require.EqualValues(t, 1400, w.finish().Pushed)
}

// TestStandbyFailovers loses one primary after the other under load, each time with a synchronous standby
// that takes over at the address that the daemon knows, and kills the daemon in between. A new
// primary waits for a standby that is only being made.
func TestStandbyFailovers(t *testing.T) {
	t.Parallel()
	for _, from := range []source{stream, listLeft} {
		t.Run(from.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{source: from, postgres: own})
			follow := func(n int) *testenv.PostgresServer {
				next := testenv.Setting("synchronous_standby_names", fmt.Sprintf("s%d", n+1))
				return testenv.NewStandby(t, w.postgres, fmt.Sprintf("s%d", n), next)
			}
			standby := follow(1)
			require.NoError(t, w.postgres.Configure(t.Context(), "synchronous_standby_names", "s1"))
			p, address := newProxy(t, w.postgresURL, postgresMessages)
			w.postgresURL = address
			pushed := w.load(300, 15*time.Second)
			d := w.start("run")
			const settled = "SELECT coalesce(sum(entries), 0)::bigint FROM aggregator.checkpoint"
			for n := range 4 {
				time.Sleep(500*time.Millisecond + rand.N(time.Second)) // the fault
				w.takeOver(standby)
				p.moveTo(w.host())
				time.Sleep(rand.N(time.Second))
				before := w.number(settled)
				d.kill()
				d = w.outlast(w.start("run"))
				standby = follow(n + 2)
				w.until("the daemon goes on", func() bool { return w.number(settled) > before || w.waiting() == 0 })
			}
			pushed()
			w.emptied()
			d.stop()
			w.exact()
		})
	}
}
