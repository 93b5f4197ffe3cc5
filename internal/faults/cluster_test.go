//go:build faults

package faults_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// sharedSource is in many partitions, for instances that share them.
var sharedSource = source{"stream", "left", 12}

// TestInstancesComeAndGo lets instances that share a source join, leave, die and sleep at random
// under a load: INSTANCES so often. One sleeps for up to three times as long as its leases last.
func TestInstancesComeAndGo(t *testing.T) {
	t.Parallel()
	events, err := strconv.Atoi(cmp.Or(os.Getenv("INSTANCES"), "200"))
	require.NoError(t, err, "INSTANCES")
	const ttl = 2 * time.Second
	for _, pooled := range []bool{false, true} {
		t.Run(map[bool]string{false: "direct", true: "pooled"}[pooled], func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{source: sharedSource, pooled: pooled, env: []string{"AGGREGATOR_LEASE_TTL=" + ttl.String()}})
			w.unordered = true
			var living, asleep []*daemon
			wake := make(map[*daemon]time.Time)
			count := make(map[string]int)
			pick := func(from *[]*daemon) *daemon {
				i := rand.IntN(len(*from))
				d := (*from)[i]
				*from = slices.Delete(*from, i, i+1)
				return d
			}
			for range 3 {
				living = append(living, w.start("run"))
			}
			pushed := w.load(200, 5*time.Second)
			for n := range events {
				if n%10 == 9 {
					pushed()
					pushed = w.load(200, 5*time.Second)
				}
				for i := len(asleep) - 1; i >= 0; i-- {
					if d := asleep[i]; time.Now().After(wake[d]) {
						d.signal(syscall.SIGCONT)
						asleep = slices.Delete(asleep, i, i+1)
						living = append(living, d)
					}
				}
				what := []string{"join", "leave", "kill", "sleep"}[rand.IntN(4)]
				switch {
				case len(living) < 2:
					what = "join"
				case len(living)+len(asleep) > 6 && what == "join":
					what = "kill"
				}
				count[what]++
				switch what {
				case "join":
					living = append(living, w.start("run"))
				case "leave":
					pick(&living).signal(syscall.SIGTERM)
				case "kill":
					pick(&living).kill()
				case "sleep":
					d := pick(&living)
					d.signal(syscall.SIGSTOP)
					wake[d] = time.Now().Add(rand.N(3 * ttl))
					asleep = append(asleep, d)
				}
				time.Sleep(rand.N(500 * time.Millisecond)) // between faults
			}
			for _, d := range asleep {
				d.signal(syscall.SIGCONT)
				living = append(living, d)
			}
			pushed()
			w.emptied()
			w.sharedEvenly(len(living))
			for _, d := range living {
				d.stop()
			}
			require.Zero(t, w.number(
				`SELECT (SELECT count(*) FROM aggregator.member WHERE expires_at > now()) + (SELECT count(*) FROM `+
					`aggregator.lease WHERE expires_at > now())`))
			w.exact()
			t.Logf("%v", count)
		})
	}
}

// sharedEvenly waits until so many instances are there, and share all sources evenly.
func (w *world) sharedEvenly(members int) {
	w.t.Helper()
	w.until("the instances share the sources evenly", func() bool {
		return w.number(`SELECT count(*) FROM (
    SELECT count(l.source) n FROM aggregator.member m
    LEFT JOIN aggregator.lease l ON l.holder = m.instance AND l.expires_at > now()
    WHERE m.expires_at > now() GROUP BY m.instance) held
HAVING max(n) - min(n) <= 1 AND sum(n) = $1`, w.source.partitions) == int64(members)
	})
}

// TestHandOverTimes measures how long a source is without an owner: HAND_OVERS times one joins or
// leaves, and one is killed. It says so, and demands nothing: that is for a machine with nothing
// else to do. docs/scaling.md has the figures.
func TestHandOverTimes(t *testing.T) {
	rounds, err := strconv.Atoi(cmp.Or(os.Getenv("HAND_OVERS"), "2"))
	require.NoError(t, err, "HAND_OVERS")
	const ttl = 5 * time.Second
	w := newWorld(t, setup{source: sharedSource, env: []string{"AGGREGATOR_LEASE_TTL=" + ttl.String()}})
	balanced := func(members int) (took time.Duration) {
		return measure(func() { w.sharedEvenly(members) })
	}
	all := []*daemon{w.start("run"), w.start("run"), w.start("run")}
	pushed := w.load(300, time.Duration(rounds)*8*time.Second)
	balanced(3)
	var handOvers, takeOvers []time.Duration
	var evens []time.Duration // how long until they share evenly again
	for range rounds {
		next := w.start("run")
		next.said("msg=joined")
		evens = append(evens, balanced(4))
		handOvers = append(handOvers, gaps(append(all, next))...)
		all[0].stop()
		evens = append(evens, balanced(3))
		handOvers = append(handOvers, gaps(append(all, next))...)
		all = append(all[1:], next)

		killed := time.Now()
		all[0].kill()
		w.until("all sources have an owner", func() bool {
			return w.number(`SELECT count(*) FROM aggregator.lease WHERE expires_at > now() AND acquired_at > $1 AND source `+
				`IS NOT NULL`, killed) == int64(sharedSource.partitions/3)
		})
		balanced(2)
		for _, d := range all[1:] {
			d.said("holding the lease")
			for _, at := range d.times("holding the lease") {
				if at.at.After(killed) {
					takeOvers = append(takeOvers, at.at.Sub(killed))
				}
			}
		}
		all = append(all[1:], w.start("run"))
		balanced(3)
	}
	pushed()
	w.emptied()
	for _, d := range all {
		d.stop()
	}
	w.exact()
	t.Logf("%d instances, 12 sources, leases of %s", 3, ttl)
	t.Logf("a source given up is without an owner for  %s", percentiles(handOvers))
	t.Logf("a source of one that was killed for        %s", percentiles(takeOvers))
	t.Logf("shared evenly again after a join or leave  %s", percentiles(evens))
}

// logged is a line of a source in a log.
type logged struct {
	at     time.Time
	source string
}

var ofSource = regexp.MustCompile(`(?m)^time=(\S+) .*msg="([^"]+)" source=(\S+)`)

// times are when the daemon said something of its sources.
func (d *daemon) times(message string) (all []logged) {
	for _, m := range ofSource.FindAllStringSubmatch(d.output(), -1) {
		if m[2] == message {
			at, err := time.Parse(time.RFC3339Nano, m[1])
			require.NoError(d.t, err)
			all = append(all, logged{at, m[3]})
		}
	}
	return all
}

var counted = make(map[string]bool)

// gaps are the times from each word of a daemon that it gave a source up to the next of any that it has
// it, each counted once.
func gaps(daemons []*daemon) (all []time.Duration) {
	var taken []logged
	for _, d := range daemons {
		taken = append(taken, d.times("holding the lease")...)
	}
	slices.SortFunc(taken, func(a, b logged) int { return a.at.Compare(b.at) })
	for _, d := range daemons {
		for _, given := range d.times("gave up the lease") {
			key := fmt.Sprint(given)
			if counted[key] {
				continue
			}
			for _, next := range taken {
				if next.source == given.source && next.at.After(given.at) {
					counted[key] = true
					all = append(all, next.at.Sub(given.at))
					break
				}
			}
		}
	}
	return all
}

func percentiles(all []time.Duration) string {
	slices.Sort(all)
	if len(all) == 0 {
		return "none"
	}
	at := func(p int) time.Duration { return all[min(len(all)-1, len(all)*p/100)].Round(time.Millisecond) }
	return fmt.Sprintf("p50 %s, p99 %s, at most %s (%d)", at(50), at(99), at(100), len(all))
}
