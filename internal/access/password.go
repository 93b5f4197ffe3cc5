package access

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

const (
	rememberFor = 5 * time.Minute // since it was last used
	maxRight    = 1000
	maxWaiting  = 32
)

// passwords remembers those that were right, as keyed hashes: a page that asks every two seconds costs no bcrypt.
type passwords struct {
	key     []byte
	compare func(hash, password []byte) error
	turn    chan struct{} // has one while a password is tried: one at a time
	waiting chan struct{} // one for each request that tries one or waits for its turn

	mu    sync.Mutex
	right map[[sha256.Size]byte]time.Time // until when
}

func newPasswords() passwords {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	return passwords{
		key: key, compare: bcrypt.CompareHashAndPassword,
		turn: make(chan struct{}, 1), waiting: make(chan struct{}, maxWaiting),
		right: map[[sha256.Size]byte]time.Time{},
	}
}

// sum is a keyed hash of texts, none of which has a byte 0 but the last.
func (p *passwords) sum(texts ...string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, p.key)
	for _, text := range texts {
		_, _ = h.Write([]byte(text))
		_, _ = h.Write([]byte{0})
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// remembered says whether a password was right lately, and then remembers it for longer.
func (p *passwords) remembered(sum [sha256.Size]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !time.Now().Before(p.right[sum]) {
		return false
	}
	p.right[sum] = time.Now().Add(rememberFor)
	return true
}

func (p *passwords) remember(sum [sha256.Size]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for other, until := range p.right {
		if !time.Now().Before(until) {
			delete(p.right, other)
		}
	}
	if len(p.right) < maxRight {
		p.right[sum] = time.Now().Add(rememberFor)
	}
}

// byPassword returns the user of that name if the password is right, else a *refusal.
func (g *Guard) byPassword(ctx context.Context, peer netip.Addr, name, password string) (User, error) {
	p, users := &g.passwords, g.users.now()
	wrong := refuse(http.StatusUnauthorized, "the login is not valid")
	user, known := users.byName(name)
	// The hash is in the sum: a new one for the user forgets the old password.
	sum := p.sum(name, user.secret, password)
	// First, because what is remembered could else be guessed as fast as requests come.
	if err := g.failures.mustWait(peer); err != nil {
		return User{}, err
	}
	if known && p.remembered(sum) {
		return user.User, nil
	}
	select {
	case p.waiting <- struct{}{}:
		defer func() { <-p.waiting }()
	default:
		return User{}, &refusal{http.StatusTooManyRequests, "too many logins at once", time.Second}
	}
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return User{}, wrong // the client has gone
	}
	// Both may have changed meanwhile.
	if known && p.remembered(sum) {
		return user.User, nil
	}
	if err := g.failures.mustWait(peer); err != nil {
		return User{}, err
	}
	if !known && len(users) > 0 {
		// It costs what it costs for one of the others, the same one each time.
		of := p.sum(name)
		user = users[binary.BigEndian.Uint64(of[:])%uint64(len(users))]
	}
	if p.compare([]byte(user.secret), []byte(password)) != nil || !known {
		if !known {
			name = "" // it may be a password or a token, in the wrong place
		}
		g.failures.add(peer, "password", name)
		return User{}, wrong
	}
	p.remember(sum)
	return user.User, nil
}
