package config_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/config"
	"aggregator/internal/testenv"
)

func TestHTTPLists(t *testing.T) {
	isolate(t)
	c, err := load(t, "--http-hosts= a.example.com ,10.1.2.3,fe80::1", "--http-trusted-header=x-forwarded-user",
		"--http-trusted-proxies=10.1.2.3,10.2.3.4/16,::ffff:10.9.9.9,fd00::/8", "--http-operators=Ann Lee,bob@example.com")
	require.NoError(t, err)
	require.Equal(t, []string{"a.example.com", "10.1.2.3", "fe80::1"}, c.HTTP.Hosts)
	require.Equal(t, "X-Forwarded-User", c.HTTP.TrustedHeader)
	require.Equal(t, []netip.Prefix{
		netip.MustParsePrefix("10.1.2.3/32"), netip.MustParsePrefix("10.2.0.0/16"), netip.MustParsePrefix("10.9.9.9/32"),
		netip.MustParsePrefix("fd00::/8"),
	}, c.HTTP.TrustedProxies)
	require.Equal(t, []string{"Ann Lee", "bob@example.com"}, c.HTTP.Operators)
	require.NoError(t, c.Validate())

	next := config.Default()
	now, applied, pending := c.Reload(next)
	require.Empty(t, applied)
	require.Equal(t, []string{"http.hosts", "http.trusted_header", "http.trusted_proxies", "http.operators"}, pending)
	require.Equal(t, c.HTTP, now.HTTP)
}

func TestWrongHTTP(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"a host with a port": {
			[]string{"--http-hosts=a:80"}, `http.hosts = "a:80" (flag --http-hosts): "a:80": want names`,
		},
		"a host with a scheme": {[]string{"--http-hosts=https://a"}, "want names or addresses of hosts, without ports"},
		"a host twice":         {[]string{"--http-hosts=a,b,a"}, `"a" is there twice`},
		"nothing at the end":   {[]string{"--http-hosts=a,"}, "there is nothing between two commas, or at an end"},
		"a header with spaces": {[]string{"--http-trusted-header=X User"}, "want the name of an HTTP header"},
		"a proxy's name":       {[]string{"--http-trusted-proxies=proxy"}, `"proxy": want addresses, or networks`},
		"every address":        {[]string{"--http-trusted-proxies=0.0.0.0/0"}, "each could then be any user"},
		"every IPv6 address":   {[]string{"--http-trusted-proxies=::/0"}, "each could then be any user"},
		"a mapped network":     {[]string{"--http-trusted-proxies=::ffff:0:0/96"}, "want addresses, or networks"},
		"a header alone": {
			[]string{"--http-trusted-header=X-User"},
			`http.trusted_header = "X-User": http.trusted_proxies is missing`,
		},
		"proxies alone": {
			[]string{"--http-trusted-proxies=10.0.0.0/8"},
			`http.trusted_proxies = "10.0.0.0/8": http.trusted_header is missing`,
		},
		"operators alone": {[]string{"--http-operators=ann"}, `http.operators = "ann": only with http.trusted_header`},
		"a certificate alone": {
			[]string{"--http-tls-cert-file=c"},
			`http.tls_cert_file = "c": http.tls_key_file is missing`,
		},
		"a key alone": {[]string{"--http-tls-key-file=k"}, `http.tls_key_file = "k": http.tls_cert_file is missing`},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			_, err := load(t, tc.args...)
			requireOneLine(t, err, tc.want)
		})
	}
}

// Load does not read the files, which a command such as status may not be allowed to.
func TestHTTPFiles(t *testing.T) {
	isolate(t)
	authority := testenv.NewAuthority(t, "ca")
	cert, key := authority.Issue("server", time.Now().Add(time.Hour)).Files(t)
	_, foreign := authority.Issue("other", time.Now().Add(time.Hour)).Files(t)
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	read := func(cert, key string) (server, client error) {
		c, err := load(t, "--http-tls-cert-file="+cert, "--http-tls-key-file="+key)
		require.NoError(t, err)
		_, server = c.HTTPCertificate()
		_, client = c.HTTPClient()
		return server, client
	}
	server, client := read(cert, key)
	require.NoError(t, server)
	require.NoError(t, client)
	server, client = read("nowhere", key)
	requireOneLine(t, server, `http.tls_cert_file = "nowhere": no such file or directory`)
	requireOneLine(t, client, `http.tls_cert_file = "nowhere": no such file or directory`)
	server, client = read(cert, "nowhere")
	requireOneLine(t, server, `http.tls_key_file = "nowhere": no such file or directory`)
	require.NoError(t, client, "a client needs no key")
	server, _ = read(cert, foreign)
	requireOneLine(t, server, `http.tls_cert_file = "`+cert+`", http.tls_key_file = "`+foreign+`": `)
	require.ErrorContains(t, server, "private key does not match")
	_, client = read(empty, key)
	requireOneLine(t, client, "there is no certificate in PEM form in it")

	c, err := load(t, "--http-users-file=nowhere")
	require.NoError(t, err)
	_, err = c.Access(nil)
	requireOneLine(t, err, `http.users_file = "nowhere": no such file or directory`)
	require.ErrorIs(t, err, config.ErrInvalid)
	none := config.Default()
	pair, err := none.HTTPCertificate()
	require.NoError(t, err)
	require.Nil(t, pair)
	asked, err := none.HTTPClient()
	require.NoError(t, err)
	require.Nil(t, asked)
}
