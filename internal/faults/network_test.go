//go:build faults

package faults_test

import (
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// network is a network namespace with an instance in it, which reaches Redis and PostgreSQL by one link.
type network struct {
	t                     *testing.T
	name, link            string
	redisURL, postgresURL string
}

var networks atomic.Int64

// newNetwork makes a network namespace. It needs root.
func (w *world) newNetwork() *network {
	w.t.Helper()
	number := networks.Add(1)
	require.Less(w.t, number, int64(64), "each has four addresses of a /24")
	id := fmt.Sprintf("%d-%d", os.Getpid(), number)
	n := &network{t: w.t, name: "aggregator-" + id, link: "ag" + id}
	// Addresses for tests between networks: RFC 2544.
	outside, inside := fmt.Sprintf("198.18.77.%d", 4*number+1), fmt.Sprintf("198.18.77.%d", 4*number+2)
	n.ip("netns", "add", n.name)
	w.t.Cleanup(func() { n.ip("netns", "delete", n.name) }) // and the link with it
	n.ip("link", "add", n.link, "type", "veth", "peer", "name", "eth0", "netns", n.name)
	n.ip("address", "add", outside+"/30", "dev", n.link)
	n.ip("link", "set", n.link, "up")
	n.ip("-n", n.name, "address", "add", inside+"/30", "dev", "eth0")
	n.ip("-n", n.name, "link", "set", "eth0", "up")
	n.redisURL, n.postgresURL = n.reach(outside, w.redisURL), n.reach(outside, w.postgresURL)
	return n
}

func (n *network) ip(args ...string) {
	n.t.Helper()
	said, err := exec.Command("ip", args...).CombinedOutput() //nolint:noctx // it does not wait for anything
	require.NoError(n.t, err, "ip %v: %s", args, said)
}

// reach is the URL under which a server of this machine is reached from within.
func (n *network) reach(outside, server string) string {
	n.t.Helper()
	u, err := url.Parse(server)
	require.NoError(n.t, err)
	target := u.Host
	listener, err := net.Listen("tcp", net.JoinHostPort(outside, "0")) //nolint:noctx // closed by the test
	require.NoError(n.t, err)
	n.t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go join(client, target)
		}
	}()
	u.Host = listener.Addr().String()
	return u.String()
}

// join copies between a client and a server until one of them closes.
func join(client net.Conn, target string) {
	defer client.Close()
	server, err := net.Dial("tcp", target) //nolint:noctx // it ends with either side
	if err != nil {
		return
	}
	defer server.Close()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			done <- struct{}{}
		}()
	}
	<-done
}

// cut takes the link away without a word to either side; restore gives it back.
func (n *network) cut()     { n.ip("link", "set", n.link, "down") }
func (n *network) restore() { n.ip("link", "set", n.link, "up") }

// startIn starts an instance in a network of its own.
func (w *world) startIn(n *network) *daemon {
	w.t.Helper()
	there := *w
	there.program, there.redisURL, there.postgresURL = "ip", n.redisURL, n.postgresURL
	return there.start("netns", "exec", n.name, w.program, "run") // it becomes the program: its process is the daemon
}

// TestInstancesCutOff cuts instances that share a source off from both servers, without a word: CUTS times,
// for up to three times as long as their leases last, now and then one while another is away.
func TestInstancesCutOff(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	t.Parallel()
	cuts, err := strconv.Atoi(cmp.Or(os.Getenv("CUTS"), "20"))
	require.NoError(t, err, "CUTS")
	const ttl = 2 * time.Second
	w := newWorld(t, setup{source: sharedSource, env: []string{"AGGREGATOR_LEASE_TTL=" + ttl.String()}})
	w.unordered = true
	var all []*network
	var daemons []*daemon
	for range 4 {
		n := w.newNetwork()
		all, daemons = append(all, n), append(daemons, w.startIn(n))
	}
	w.sharedEvenly(len(daemons))
	pushed := w.load(200, time.Duration(cuts)*2*ttl)
	away := make(map[*network]time.Time) // until when
	for done := 0; done < cuts || len(away) > 0; {
		for n, until := range away {
			if time.Now().After(until) {
				n.restore()
				delete(away, n)
			}
		}
		if n := all[rand.IntN(len(all))]; done < cuts && len(away) < 2 && away[n].IsZero() {
			n.cut()
			away[n] = time.Now().Add(rand.N(3 * ttl))
			done++
		}
		time.Sleep(rand.N(ttl)) // between faults
	}
	pushed()
	w.emptied()
	for _, d := range daemons {
		require.True(t, d.running(), "%s", d.tail())
	}
	w.sharedEvenly(len(daemons))
	for _, d := range daemons {
		d.stop()
	}
	w.exact()
}

// TestReplacedByAnotherBuild replaces instances that share a source one by one under load by a build of another
// version, as a rolling upgrade does. Each replacement moves only what the leaving one held, and what is due to
// the new one.
func TestReplacedByAnotherBuild(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{source: sharedSource, env: []string{"AGGREGATOR_LEASE_TTL=5s"}})
	w.unordered = true
	another, err := buildDaemon(t.Context(), "-ldflags", "-X main.version=99.0.0-other")
	require.NoError(t, err)
	all := []*daemon{w.start("run"), w.start("run"), w.start("run")}
	w.sharedEvenly(len(all))
	pushed := w.load(300, 15*time.Second)
	moves := func() (n int) {
		for _, d := range all {
			n += len(d.times("holding the lease"))
		}
		return n
	}
	w.program = another
	for i := range 3 {
		before := moves()
		all = append(all, w.start("run"))
		w.sharedEvenly(4)
		all[i].stop()
		w.sharedEvenly(3)
		// 3 of 12 sources go to the fourth, and what the leaving one has left, 3, to the others.
		require.LessOrEqual(t, moves()-before, 6)
	}
	pushed()
	w.emptied()
	for _, d := range all[3:] {
		require.Contains(t, d.output(), "99.0.0-other")
		d.stop()
	}
	w.exact()
}
