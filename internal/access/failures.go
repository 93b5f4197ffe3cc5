package access

import (
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

const (
	freeFailures  = 5                // before an address has to wait
	longestWait   = time.Minute      // between two logins from it
	forgetAfter   = 10 * time.Minute // since the last failure
	maxAddresses  = 4096
	loggedAMinute = 20
)

// failures slows down logins from addresses where they have failed. A login that succeeds forgives nothing: who
// has one password may be trying another.
type failures struct {
	log *slog.Logger

	mu     sync.Mutex
	byPeer map[netip.Prefix]failed

	minute   time.Time // in which were logged
	logged   int
	unlogged int
}

type failed struct {
	times int
	last  time.Time
}

// until is when the next login may be tried.
func (f failed) until() time.Time {
	if f.times < freeFailures {
		return f.last
	}
	return f.last.Add(min(time.Second<<min(f.times-freeFailures, 10), longestWait))
}

// network is what counts as one address: of IPv6, all that one customer has.
func network(peer netip.Addr) netip.Prefix {
	bits := peer.BitLen()
	if peer.Is6() {
		bits = 64
	}
	of, _ := peer.Prefix(bits) // the zero Addr has the zero Prefix
	return of
}

// mustWait returns a *refusal if a login from there has to wait.
func (f *failures) mustWait(peer netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if wait := time.Until(f.byPeer[network(peer)].until()); wait > 0 {
		return &refusal{http.StatusTooManyRequests, "too many failed logins from this address", wait}
	}
	return nil
}

// add counts a login that has failed, and logs it. The name is that of a user, or empty.
func (f *failures) add(peer netip.Addr, by, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, from := time.Now(), network(peer)
	one := f.byPeer[from]
	if one.times == 0 {
		f.makeRoom()
	}
	if now.Sub(one.last) > forgetAfter {
		one = failed{}
	}
	f.byPeer[from] = failed{one.times + 1, now}

	if now.Sub(f.minute) >= time.Minute {
		f.minute, f.logged = now, 0
	}
	if f.logged++; f.logged > loggedAMinute {
		f.unlogged++
		return
	}
	if name == "" {
		name = "(unknown)"
	}
	f.log.Warn("a login has failed", "peer", peer, "by", by, "user", name, "not_logged_before", f.unlogged)
	f.unlogged = 0
}

// makeRoom forgets the address that has failed the longest ago, if there are many.
func (f *failures) makeRoom() {
	if f.byPeer == nil {
		f.byPeer = map[netip.Prefix]failed{}
	}
	if len(f.byPeer) < maxAddresses {
		return
	}
	var oldest netip.Prefix
	for from, one := range f.byPeer {
		if !oldest.IsValid() || one.last.Before(f.byPeer[oldest].last) {
			oldest = from
		}
	}
	delete(f.byPeer, oldest)
}
