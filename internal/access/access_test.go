package access_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"aggregator/internal/access"
)

const (
	right       = "correct horse"
	botToken    = "bot-0123456789abcdef0123456789abcdef"
	readerToken = "reader-0123456789abcdef+0123456789ab="
)

func hash(t *testing.T, password string) string {
	t.Helper()
	sum, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	require.NoError(t, err)
	return string(sum)
}

// write writes a file that only its owner can read.
func write(t *testing.T, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
}

// files are a file of users, ann the operator and val the viewer, and one of tokens.
func files(t *testing.T) (users, tokens string) {
	t.Helper()
	users, tokens = filepath.Join(t.TempDir(), "users.yaml"), filepath.Join(t.TempDir(), "tokens.yaml")
	write(t, users, fmt.Sprintf("operators:\n  ann: %s\nviewers: {val: %q}\n", hash(t, right), hash(t, "viewing")))
	write(t, tokens, "operators: {bot: "+botToken+"}\nviewers: {reader: "+readerToken+"}\n")
	return users, tokens
}

// echo says who asks.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	user := access.From(r.Context())
	fmt.Fprintf(w, "%s is a %s", user.Name, user.Role)
})

func newGuard(t *testing.T, o access.Options) *access.Guard {
	t.Helper()
	g, err := access.New(o)
	require.NoError(t, err)
	return g
}

// request is one as it arrives, from this machine unless it says otherwise.
type request struct {
	method, target, host string
	peer, local          string
	header               http.Header
	user, password       string // or, without a user, a token
	proto                int    // 10 is HTTP/1.0
}

func ask(t *testing.T, handler http.Handler, q request) *httptest.ResponseRecorder {
	t.Helper()
	or := func(a, b string) string {
		if a == "" {
			return b
		}
		return a
	}
	r := httptest.NewRequestWithContext(t.Context(), or(q.method, "GET"), or(q.target, "/"), nil)
	r.Host, r.RemoteAddr = or(q.host, "localhost:9464"), or(q.peer, "127.0.0.1:40000")
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey,
		net.Addr(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(or(q.local, "127.0.0.1:9464"))))))
	for name, values := range q.header {
		r.Header[name] = values
	}
	if q.user != "" {
		r.SetBasicAuth(q.user, q.password)
	} else if q.password != "" {
		r.Header.Set("Authorization", "Bearer "+q.password)
	}
	if q.proto == 10 {
		r.ProtoMajor, r.ProtoMinor = 1, 0
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

func header(name string, values ...string) http.Header { return http.Header{name: values} }

// remote is a request from another machine, to an address of this one.
func remote(q request) request {
	q.peer, q.local, q.host = "10.0.0.9:40000", "10.0.0.1:9464", "10.0.0.1:9464"
	return q
}

func TestWho(t *testing.T) {
	users, tokens := files(t)
	logins := access.Options{UsersFile: users, TokensFile: tokens, Preferences: []string{"/zone"}}
	proxied := access.Options{
		Header: "X-Forwarded-User", Operators: []string{"ann"},
		Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.9/32"), netip.MustParsePrefix("127.0.0.3/32")},
	}
	post := func(q request) request { q.method = "POST"; return q }
	const visitor, ann, val = " is a viewer", "ann is a operator", "val is a viewer"
	for name, tc := range map[string]struct {
		options access.Options
		request
		code int
		want string // in the answer
	}{
		"this machine reads":       {access.Options{}, request{}, 200, visitor},
		"this machine, HEAD":       {access.Options{}, request{method: "HEAD"}, 200, ""},
		"this machine, by address": {access.Options{}, request{host: "127.0.0.1:9464"}, 200, visitor},
		"this machine, IPv6": {
			access.Options{}, request{host: "[::1]", peer: "[::1]:1", local: "[::1]:9464"}, 200, visitor,
		},
		"this machine, mapped": {
			access.Options{}, request{peer: "[::ffff:127.0.0.1]:1", local: "[::ffff:127.0.0.1]:2"}, 200, visitor,
		},
		"this machine acts":        {access.Options{}, post(request{}), 403, "set http.users_file"},
		"this machine, OPTIONS":    {access.Options{}, request{method: "OPTIONS"}, 403, "set http.users_file"},
		"this machine, lower case": {access.Options{}, request{method: "get"}, 403, "set http.users_file"},
		"this machine logs in":     {access.Options{}, request{target: "/login"}, 403, "set http.users_file"},
		"a login that cannot be":   {access.Options{}, request{user: "ann", password: right}, 403, "set http.users_file"},
		"another machine":          {access.Options{}, remote(request{}), 403, "set http.users_file"},
		"here, by another name":    {access.Options{Hosts: []string{"h"}}, request{host: "h"}, 403, "needs a login"},
		"a proxy, Forwarded":       {access.Options{}, request{header: header("Forwarded", "for=x")}, 403, "needs a login"},
		"a proxy, X-Forwarded-For": {
			access.Options{}, request{header: header("X-Forwarded-For", "")}, 403, "needs a login",
		},
		"a proxy, X-Forwarded-Proto": {
			access.Options{}, request{header: header("X-Forwarded-Proto", "https")}, 403, "needs a login",
		},
		"a proxy, X-Real-IP": {
			access.Options{}, request{header: header("X-Real-Ip", "10.0.0.9")}, 403, "needs a login",
		},
		"a proxy, Via":        {access.Options{}, request{header: header("Via", "1.1 p")}, 403, "needs a login"},
		"a proxy of HTTP/1.0": {access.Options{}, request{proto: 10}, 403, "needs a login"},
		"no peer":             {access.Options{}, request{peer: "@"}, 403, "needs a login"},

		"here, without a login":   {logins, request{}, 200, visitor},
		"here, to act":            {logins, post(request{}), 401, "needs a login"},
		"here, to log in":         {logins, request{target: "/login"}, 401, "needs a login"},
		"here, to log in, HEAD":   {logins, request{method: "HEAD", target: "/login"}, 401, ""},
		"here, encoded":           {logins, request{target: "/%6cogin"}, 401, "needs a login"},
		"a preference":            {logins, post(request{target: "/zone"}), 200, visitor},
		"a preference, PUT":       {logins, request{method: "PUT", target: "/zone"}, 401, ""},
		"a preference, elsewhere": {logins, remote(post(request{target: "/zone"})), 401, ""},
		"almost a preference":     {logins, post(request{target: "/zone/"}), 401, ""},
		"two slashes":             {logins, post(request{target: "http://localhost//zone"}), 401, ""},
		"dots":                    {logins, post(request{target: "/./zone"}), 401, ""},
		"dots, encoded":           {logins, post(request{target: "/dead%2f..%2fzone"}), 401, ""},
		"another machine reads":   {logins, remote(request{}), 401, "needs a login"},

		"a password":         {logins, remote(request{user: "ann", password: right}), 200, ann},
		"a password, to act": {logins, remote(post(request{user: "ann", password: right})), 200, ann},
		"a password, here":   {logins, request{user: "ann", password: right}, 200, ann},
		"a password, /login": {logins, request{target: "/login", user: "ann", password: right}, 200, ann},
		"a viewer":           {logins, remote(request{user: "val", password: "viewing"}), 200, val},
		"a viewer acts":      {logins, post(request{user: "val", password: "viewing"}), 403, "val is a viewer"},
		"a viewer, lower case": {
			logins, request{method: "post", user: "val", password: "viewing"}, 403, "val is a viewer",
		},
		"a viewer prefers":         {logins, post(request{target: "/zone", user: "val", password: "viewing"}), 200, val},
		"a wrong password":         {logins, remote(request{user: "ann", password: "viewing"}), 401, "not valid"},
		"a wrong password, here":   {logins, request{user: "ann", password: "x"}, 401, "not valid"},
		"no password":              {logins, request{user: "ann"}, 401, "not valid"},
		"an unknown name":          {logins, remote(request{user: "eve", password: right}), 401, "not valid"},
		"a name of other case":     {logins, remote(request{user: "Ann", password: right}), 401, "not valid"},
		"a hash as a password":     {logins, request{user: "ann", password: "$2a$04$"}, 401, "not valid"},
		"a token":                  {logins, remote(post(request{password: botToken})), 200, "bot is a operator"},
		"a viewer's token":         {logins, remote(request{password: readerToken}), 200, "reader is a viewer"},
		"a viewer's token, to act": {logins, post(request{password: readerToken}), 403, "reader is a viewer"},
		"a wrong token":            {logins, remote(request{password: botToken + "x"}), 401, "not valid"},
		"half a token":             {logins, remote(request{password: botToken[:35]}), 401, "not valid"},
		"a token as a password":    {logins, remote(request{user: "bot", password: botToken}), 401, "not valid"},
		"a password as a token":    {logins, remote(request{password: right}), 401, "not valid"},
		"Bearer in lower case": {
			logins, remote(request{header: header("Authorization", "bearer "+botToken)}), 200, "bot",
		},
		"another scheme": {logins, request{header: header("Authorization", "Negotiate x")}, 401, "not valid"},
		"not base64":     {logins, request{header: header("Authorization", "Basic %")}, 401, "not valid"},
		"two logins": {
			logins, request{header: header("Authorization", "Bearer "+botToken, "Bearer x")}, 400, "one header",
		},
		"a huge login":         {logins, request{password: strings.Repeat("x", 1<<20)}, 400, "at most"},
		"users alone, a token": {access.Options{UsersFile: users}, request{password: botToken}, 401, "not valid"},
		"tokens alone, a password": {
			access.Options{TokensFile: tokens}, request{user: "ann", password: right}, 401, "not valid",
		},
		"a trusted header, untaught": {logins, request{header: header("X-Forwarded-User", "ann")}, 401, "needs a login"},

		"a proxy's user":     {proxied, remote(request{header: header("X-Forwarded-User", "val")}), 200, val},
		"a proxy's operator": {proxied, remote(post(request{header: header("X-Forwarded-User", "ann")})), 200, ann},
		"a proxy's viewer": {
			proxied, remote(post(request{header: header("X-Forwarded-User", "val")})), 403, "val is a viewer",
		},
		"an Authorization, too": {
			proxied,
			remote(request{user: "x", password: "y", header: header("X-Forwarded-User", "val")}),
			200, val,
		},
		"no proxy": {proxied, request{header: header("X-Forwarded-User", "ann")}, 403, "come through the proxy"},
		"two names": {
			proxied, remote(request{header: header("X-Forwarded-User", "ann", "ann")}), 403, "want one name",
		},
		"two names in one": {
			proxied, remote(request{header: header("X-Forwarded-User", "eve,ann")}), 403, "want one name",
		},
		"an empty name": {proxied, remote(request{header: header("X-Forwarded-User", "")}), 403, "want one name"},
		"a space":       {proxied, remote(request{header: header("X-Forwarded-User", " ann")}), 403, "want one name"},
		"an invisible sign": {
			proxied, remote(request{header: header("X-Forwarded-User", "a\u202enn")}), 403, "want one name",
		},
		"not UTF-8":            {proxied, remote(request{header: header("X-Forwarded-User", "a\xff")}), 403, "want one name"},
		"a proxy without it":   {proxied, remote(request{}), 403, "come through the proxy"},
		"a proxy here":         {proxied, request{peer: "127.0.0.3:1"}, 403, "come through the proxy"},
		"beside a proxy, here": {proxied, request{}, 200, visitor},
	} {
		t.Run(name, func(t *testing.T) {
			w := ask(t, newGuard(t, tc.options).Wrap(echo), tc.request)
			require.Equal(t, tc.code, w.Code, w.Body)
			require.Contains(t, w.Body.String(), tc.want)
			if tc.code != 200 {
				require.NotContains(t, w.Body.String(), " is a operator")
			}
			challenge := w.Header().Values("WWW-Authenticate")
			require.Equal(t, tc.code == 401, len(challenge) > 0, "%q", challenge)
			require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
			require.Equal(t, "DENY", w.Header().Get("X-Frame-Options"))
			require.Equal(t, "same-origin", w.Header().Get("Referrer-Policy"))
			require.Equal(t, "same-origin", w.Header().Get("Cross-Origin-Opener-Policy"))
			require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'; script-src 'self'; ")
		})
	}
}

// A header with another name than those of proxies is as good a sign of one.
func TestUntrustedHeaderOfAnyName(t *testing.T) {
	g := newGuard(t, access.Options{Header: "Remote-User", Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.9/32")}})
	w := ask(t, g.Wrap(echo), request{header: header("Remote-User", "ann")})
	require.Equal(t, 403, w.Code)
	w = ask(t, g.Wrap(echo), remote(request{header: header("Remote-User", "ann")}))
	require.Equal(t, "ann is a viewer", w.Body.String())
}

func TestHost(t *testing.T) {
	users, _ := files(t)
	for name, tc := range map[string]struct {
		addr        string
		hosts       []string
		host, local string
		ours        bool
	}{
		"localhost":                    {"", nil, "localhost", "", true},
		"localhost, with a dot":        {"", nil, "LocalHost.:80", "", true},
		"all of 127":                   {"", nil, "127.9.9.9", "", true},
		"localhost, from outside":      {"", nil, "localhost", "10.0.0.1:80", false},
		"127.0.0.1, from outside":      {"", nil, "127.0.0.1:80", "10.0.0.1:80", false},
		"a name below localhost":       {"", nil, "evil.localhost", "", false},
		"a name like an address":       {"", nil, "127.0.0.1.evil.example", "", false},
		"a foreign name":               {"", nil, "evil.example", "", false},
		"a foreign name, same port":    {"127.0.0.1:9464", nil, "evil.example:9464", "", false},
		"no name":                      {":9464", nil, ":9464", "", false},
		"the address":                  {"", nil, "10.0.0.1:80", "10.0.0.1:80", true},
		"the address, IPv6":            {"", nil, "[fd00::1]", "[fd00::1]:80", true},
		"the address, mapped":          {"", nil, "10.0.0.1", "[::ffff:10.0.0.1]:80", true},
		"another address":              {"", nil, "10.0.0.2", "10.0.0.1:80", false},
		"any address is none":          {"0.0.0.0:80", nil, "0.0.0.0", "10.0.0.1:80", false},
		"any IPv6 address is none":     {"[::]:80", nil, "[::]", "10.0.0.1:80", false},
		"the host of http.addr":        {"agg.example.com:80", nil, "AGG.example.com:8080", "10.0.0.1:80", true},
		"a name of http.hosts":         {"", []string{"A.example.com", "b"}, "a.example.com", "10.0.0.1:80", true},
		"an address of http.hosts":     {"", []string{"fd00:0::7"}, "[fd00::7]:80", "10.0.0.1:80", true},
		"a part of one of http.hosts":  {"", []string{"a.example.com"}, "example.com", "10.0.0.1:80", false},
		"a name that ends in our name": {"", []string{"a.example.com"}, "x.a.example.com", "10.0.0.1:80", false},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuard(t, access.Options{UsersFile: users, Addr: tc.addr, Hosts: tc.hosts})
			// Also for an operator: a browser sends a login that it remembers.
			w := ask(t, g.Wrap(echo), request{host: tc.host, local: tc.local, user: "ann", password: right})
			if tc.ours {
				require.Equal(t, 200, w.Code, w.Body)
				return
			}
			require.Equal(t, 421, w.Code)
			require.Contains(t, w.Body.String(), "http.hosts")
		})
	}
	g := newGuard(t, access.Options{})
	r := httptest.NewRequestWithContext(t.Context(), "GET", "http://localhost/", nil)
	w := httptest.NewRecorder()
	g.Wrap(echo).ServeHTTP(w, r)
	require.Equal(t, 421, w.Code, "a connection without an address is not of this machine")
}

func TestOtherSites(t *testing.T) {
	users, _ := files(t)
	guarded := newGuard(t, access.Options{UsersFile: users, Preferences: []string{"/zone"}}).Wrap(echo)
	for name, tc := range map[string]struct {
		method, target string
		header         http.Header
		code           int
	}{
		"of this page":             {"POST", "/", header("Sec-Fetch-Site", "same-origin"), 200},
		"a form of another site":   {"POST", "/", header("Sec-Fetch-Site", "cross-site"), 403},
		"of a sister site":         {"POST", "/", header("Sec-Fetch-Site", "same-site"), 403},
		"an old browser":           {"POST", "/", header("Origin", "https://evil.example"), 403},
		"another port":             {"POST", "/", header("Origin", "http://localhost:1"), 403},
		"an old browser, our page": {"POST", "/", header("Origin", "http://localhost:9464"), 200},
		"a sandbox":                {"POST", "/", header("Origin", "null"), 403},
		"no browser":               {"POST", "/", nil, 200},
		"a preference":             {"POST", "/zone", header("Sec-Fetch-Site", "cross-site"), 403},
		"DELETE":                   {"DELETE", "/", header("Sec-Fetch-Site", "cross-site"), 403},
		"a link of another site":   {"GET", "/", header("Sec-Fetch-Site", "cross-site"), 200},
	} {
		t.Run(name, func(t *testing.T) {
			w := ask(t, guarded, request{
				method: tc.method, target: tc.target, header: tc.header, user: "ann", password: right,
			})
			require.Equal(t, tc.code, w.Code, w.Body)
			if tc.code == 403 {
				require.Contains(t, w.Body.String(), "another site")
			}
		})
	}
}

func TestSecretsInURLs(t *testing.T) {
	_, tokens := files(t)
	guarded := newGuard(t, access.Options{TokensFile: tokens}).Wrap(echo)
	for target, code := range map[string]int{
		"/?reason=unknown_book&page=2": 200,
		"/?keys=1":                     200,
		"/?token=1":                    400,
		"/?a=1&Access_Token=":          400,
		"/?api_key=x":                  400,
		"/?auth=x":                     400,
		"/?key=x":                      400,
		"/?pass%77ord=x":               400,
		"/?q=" + readerToken:           400,
		"/?q=" + botToken:              400,
		"/?" + botToken:                400,
		"/?q=1&q=" + url.QueryEscape(readerToken): 400,
		"/?a=1;token=x":                400,
		"/?a=%zz":                      400,
		"http://ann:secret@localhost/": 400,
	} {
		// Whoever asks: the right login does not make it better.
		w := ask(t, guarded, request{target: target, password: botToken})
		require.Equal(t, code, w.Code, "%s: %s", target, w.Body)
		require.NotContains(t, w.Body.String(), botToken)
	}
}

func TestLoginPossible(t *testing.T) {
	users, tokens := files(t)
	for _, tc := range []struct {
		o             access.Options
		login, logins bool
	}{
		{access.Options{}, false, false},
		{access.Options{UsersFile: users}, true, true},
		{access.Options{TokensFile: tokens}, false, true},
		{access.Options{Header: "X", Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, false, true},
	} {
		g := newGuard(t, tc.o)
		require.Equal(t, tc.login, g.Login())
		require.Equal(t, tc.logins, g.Logins())
	}
	_, err := access.New(access.Options{Header: "X"})
	require.EqualError(t, err, "http.trusted_header and http.trusted_proxies: set both of them, or neither")
	_, err = access.New(access.Options{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	require.Error(t, err)
}

func TestFromNothing(t *testing.T) {
	require.Equal(t, access.User{}, access.From(t.Context()))
	require.Equal(t, access.Nobody, access.From(t.Context()).Role)
	user := access.User{Name: "ann", Role: access.Operator}
	require.Equal(t, user, access.From(access.With(t.Context(), user)))
}

// A real server, real addresses: what a connection says of itself is what counts.
func TestOverSockets(t *testing.T) {
	users, tokens := files(t)
	var log bytes.Buffer
	g := newGuard(t, access.Options{UsersFile: users, TokensFile: tokens, Log: slog.New(slog.NewTextHandler(&log, nil))})
	mux := http.NewServeMux()
	mux.Handle("/", g.Wrap(echo))
	server := httptest.NewServer(mux)
	defer server.Close()
	raw := func(from, text string) (int, string) {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := dialer.DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, strings.ReplaceAll(text, "\n", "\r\n"))
		require.NoError(t, err)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(body)
	}
	const here = "Host: localhost\nConnection: close\n"
	for name, tc := range map[string]struct {
		text string
		code int
		want string
	}{
		"reads":          {"GET / HTTP/1.1\n" + here + "\n", 200, " is a viewer"},
		"HTTP/1.0":       {"GET / HTTP/1.0\n" + here + "\n", 401, "needs a login"},
		"acts":           {"POST / HTTP/1.1\n" + here + "\n", 401, "needs a login"},
		"lower case":     {"post / HTTP/1.1\n" + here + "\n", 401, "needs a login"},
		"foreign host":   {"GET / HTTP/1.1\nHost: evil.example\nConnection: close\n\n", 421, "evil.example"},
		"foreign target": {"GET http://evil.example/ HTTP/1.1\n" + here + "\n", 421, "evil.example"},
		"a proxy":        {"GET / HTTP/1.1\nx-forwarded-for: 1.2.3.4\n" + here + "\n", 401, "needs a login"},
		"two logins":     {"GET / HTTP/1.1\nAuthorization: x\nauthorization: y\n" + here + "\n", 400, "one header"},
		"a token": {
			"POST / HTTP/1.1\nAuthorization: Bearer " + botToken + "\n" + here + "\n", 200, "bot is a operator",
		},
		"double slashes":  {"GET //login HTTP/1.1\n" + here + "\n", 307, ""},
		"dots":            {"POST /zone/../dead HTTP/1.1\n" + here + "\n", 307, ""},
		"/login, encoded": {"GET /log%69n HTTP/1.1\n" + here + "\n", 401, ""},
	} {
		t.Run(name, func(t *testing.T) {
			code, body := raw("127.0.0.1", tc.text)
			if tc.code == 307 { // the mux, before the guard: it leads to the clean path
				require.Contains(t, []int{301, 307}, code, body)
				return
			}
			require.Equal(t, tc.code, code, body)
			require.Contains(t, body, tc.want)
		})
	}

	// Logins that fail from one address are slowed down there, and nowhere else.
	login := func(from, password string) int {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
		r.SetBasicAuth("ann", password)
		code, _ := raw(from, "GET / HTTP/1.1\nAuthorization: "+r.Header.Get("Authorization")+"\n"+here+"\n")
		return code
	}
	for range 5 {
		require.Equal(t, 401, login("127.0.0.2", "wrong"))
	}
	require.Equal(t, 429, login("127.0.0.2", "wrong"))
	require.Equal(t, 200, login("127.0.0.1", right))
	require.Equal(t, 5, strings.Count(log.String(), "a login has failed"), log.String())
	require.Contains(t, log.String(), "peer=127.0.0.2 by=password user=ann")
	require.NotContains(t, log.String(), "wrong")
}
