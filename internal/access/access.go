// Package access decides who may see and do what over HTTP.
//
//	a browser on this machine    reads, without a login
//	a viewer                     reads, from wherever http.addr can be reached
//	an operator                  also acts: every method but GET and HEAD
//
// A login is a password (http.users_file), a token (http.tokens_file), or a name that a trusted proxy sends
// (http.trusted_header). What is not certain is refused.
package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Role is what a user may do. Each role may do what those before it may.
type Role int

// The roles.
const (
	Nobody   Role = iota // nothing
	Viewer               // read
	Operator             // read and act
)

// String is the name of the role.
func (r Role) String() string { return [...]string{"none", "viewer", "operator"}[r] }

// User is who sends a request. The zero User may do nothing. A Viewer without a name is on this machine, and
// has not logged in.
type User struct {
	Name string
	Role Role
}

type contextKey struct{}

// With returns a context in which From finds the user.
func With(ctx context.Context, user User) context.Context {
	return context.WithValue(ctx, contextKey{}, user)
}

// From returns the user who sends the request of this context; the zero User if no Guard let it through.
func From(ctx context.Context) User {
	user, _ := ctx.Value(contextKey{}).(User)
	return user
}

// Options say who may log in and how. The zero value lets this machine read, and is all.
type Options struct {
	UsersFile  string // names and bcrypt hashes; empty: none
	TokensFile string // names and tokens; empty: none

	// Header holds the name of the user if the request comes from one of the Proxies. Both, or neither. The name
	// is that of a viewer, unless it is one of the Operators.
	Header    string
	Proxies   []netip.Prefix
	Operators []string

	Addr  string   // host:port to listen at: its host, if it has one, is one of ours
	Hosts []string // further names by which browsers know us

	// Preferences are paths at which a POST does no more than remember how to show things: every viewer may.
	Preferences []string

	Log *slog.Logger // nil: none
}

// Guard lets requests through, or refuses them. It is safe for concurrent use.
type Guard struct {
	Options
	users, tokens *file // nil: none
	hosts         []string
	sameOrigin    http.CrossOriginProtection
	passwords     passwords
	failures      failures
}

// New returns a guard that has read the files. Its errors are one line each, name the setting and the file, and
// hold nothing of the contents. From then on a file is read again whenever a request needs it: a change counts for
// the next request. A changed file that cannot be used is logged once, and the logins from before stay.
func New(o Options) (*Guard, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if (o.Header == "") != (len(o.Proxies) == 0) {
		return nil, errors.New("http.trusted_header and http.trusted_proxies: set both of them, or neither")
	}
	g := &Guard{Options: o, hosts: ourNames(o.Addr, o.Hosts), passwords: newPasswords(), failures: failures{log: o.Log}}
	var err error
	if g.users, err = hashes.open(o.UsersFile, o.Log); err != nil {
		return nil, err
	}
	if g.tokens, err = tokens.open(o.TokensFile, o.Log); err != nil {
		return nil, err
	}
	return g, nil
}

// Login says whether a person can log in with a browser, at /login.
func (g *Guard) Login() bool { return g.users != nil }

// Logins says whether there is any way to log in.
func (g *Guard) Logins() bool { return g.users != nil || g.tokens != nil || g.Header != "" }

// securityHeaders are on every answer. Strict-Transport-Security is not: it would bind all ports of the host, of
// which this is one.
var securityHeaders = map[string]string{
	"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
		"connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
	"X-Content-Type-Options":     "nosniff",
	"X-Frame-Options":            "DENY",
	"Referrer-Policy":            "same-origin",
	"Cross-Origin-Opener-Policy": "same-origin",
	"Cache-Control":              "no-store",
}

// Wrap returns a handler that answers what next may answer, with the user in the context, and refuses the rest:
// 400 for what makes no sense or has a secret in the URL, 401 for want of a login, 403 for want of a right, 421 for
// a host that is not ours, 429 after failed logins. A GET of /login always needs a login.
func (g *Guard) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range securityHeaders {
			w.Header().Set(name, value)
		}
		user, err := g.decide(r)
		var no *refusal
		if errors.As(err, &no) {
			g.refuse(w, no)
			return
		}
		next.ServeHTTP(w, r.WithContext(With(r.Context(), user)))
	})
}

// refusal is why a request is not answered.
type refusal struct {
	code int
	text string
	wait time.Duration // with 429
}

func (r *refusal) Error() string { return r.text }

func refuse(code int, format string, args ...any) error {
	return &refusal{code: code, text: fmt.Sprintf(format, args...)}
}

func (g *Guard) refuse(w http.ResponseWriter, no *refusal) {
	switch no.code {
	case http.StatusUnauthorized:
		if g.users != nil {
			w.Header().Add("WWW-Authenticate", `Basic realm="aggregator", charset="UTF-8"`)
		}
		if g.tokens != nil {
			w.Header().Add("WWW-Authenticate", `Bearer realm="aggregator"`)
		}
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", strconv.Itoa(int((no.wait+time.Second-1)/time.Second)))
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(no.code)
	_, _ = fmt.Fprintln(w, no.text) // if it fails, the client has gone
}

// decide returns who sends the request if it may be answered, else a *refusal.
func (g *Guard) decide(r *http.Request) (User, error) {
	if !g.ours(r) {
		return User{}, refuse(http.StatusMisdirectedRequest,
			"this is not the host %q: use a name of http.hosts, the address, or localhost on the machine itself", r.Host)
	}
	if err := g.checkURL(r.URL); err != nil {
		return User{}, err
	}
	if err := g.sameOrigin.Check(r); err != nil {
		return User{}, refuse(http.StatusForbidden, "the request comes from another site")
	}
	user, err := g.who(r)
	if err != nil {
		return User{}, err
	}
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	prefers := r.Method == http.MethodPost && slices.Contains(g.Preferences, r.URL.Path)
	switch {
	case user.Name == "" && (r.URL.Path == "/login" || !reads && !prefers):
		return User{}, g.ask()
	case !reads && !prefers && user.Role < Operator:
		return User{}, refuse(http.StatusForbidden, "%s is a viewer: this needs an operator", user.Name)
	}
	return user, nil
}

// who returns who sends the request, else a *refusal.
func (g *Guard) who(r *http.Request) (User, error) {
	peer := peerOf(r)
	if names := r.Header.Values(g.Header); g.Header != "" && len(names) > 0 && g.isProxy(peer) {
		return g.named(names)
	}
	switch given := r.Header.Values("Authorization"); {
	case len(given) == 0 && g.isHere(r, peer):
		return User{Role: Viewer}, nil
	case len(given) == 0:
		return User{}, g.ask()
	case len(given) > 1 || len(given[0]) > maxAuthorization:
		return User{}, refuse(http.StatusBadRequest, "want one header Authorization, of at most %d bytes", maxAuthorization)
	}
	return g.login(r, peer)
}

// A password that counts has 72 bytes at most, a token 512.
const maxAuthorization = 4096

// ask is the refusal of a request that needs a login.
func (g *Guard) ask() error {
	switch {
	case g.users != nil || g.tokens != nil:
		return refuse(http.StatusUnauthorized, "this needs a login")
	case g.Header != "":
		return refuse(http.StatusForbidden, "this needs a login: come through the proxy, which sends %s", g.Header)
	}
	return refuse(http.StatusForbidden, "this needs a login, and there is no way to log in: set http.users_file, "+
		"http.tokens_file, or http.trusted_header with http.trusted_proxies")
}

// named is the user whose name a trusted proxy sends.
func (g *Guard) named(names []string) (User, error) {
	name := names[0]
	// Several headers may have become one with commas.
	if len(names) > 1 || strings.Contains(name, ",") || !isName(name) {
		return User{}, refuse(http.StatusForbidden, "want one name in the header %s", g.Header)
	}
	if slices.Contains(g.Operators, name) {
		return User{name, Operator}, nil
	}
	return User{name, Viewer}, nil
}

// isName says whether a text can be the name of a user: visible, and not too long for a log.
func isName(text string) bool {
	return text != "" && len(text) <= 200 && utf8.ValidString(text) && strings.TrimSpace(text) == text &&
		!strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// login is the user whose password or token the request shows.
func (g *Guard) login(r *http.Request, peer netip.Addr) (User, error) {
	if g.users == nil && g.tokens == nil {
		return User{}, g.ask()
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	name, password, isBasic := r.BasicAuth()
	switch {
	case g.users != nil && isBasic:
		return g.byPassword(r.Context(), peer, name, password)
	case g.tokens != nil && strings.EqualFold(scheme, "Bearer"):
		// A right token is never made to wait: there are too many to guess.
		if user, found := g.tokens.now().byToken(strings.TrimSpace(given)); found {
			return user, nil
		}
		if err := g.failures.mustWait(peer); err != nil {
			return User{}, err
		}
		g.failures.add(peer, "token", "")
	}
	return User{}, refuse(http.StatusUnauthorized, "the login is not valid")
}
