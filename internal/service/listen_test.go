package service

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/config"
	"aggregator/internal/testenv"
)

// A second instance on a machine goes without a listener if nobody gave it an address.
func TestDefaultAddressTaken(t *testing.T) {
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	instance := New(config.Default(), log, "v")
	first, err := instance.listen(t.Context())
	require.NoError(t, err)
	if first != nil { // else somebody else has it, which is as good
		defer first.Close()
	}
	second, err := instance.listen(t.Context())
	require.NoError(t, err)
	require.Nil(t, second)
	require.Contains(t, said.String(), "http.addr=127.0.0.1:9464")

	// The same address, if it was set, is one that somebody relies on.
	t.Setenv("AGGREGATOR_HTTP_ADDR", "127.0.0.1:9464")
	cfg, err := config.Load(nil)
	require.NoError(t, err)
	_, err = New(cfg, log, "v").listen(t.Context())
	require.EqualError(t, err,
		`http.addr = "127.0.0.1:9464": bind: address already in use; give it an address that is free, or none`)
}

// Logins that can be read on the network are warned of.
func TestLoginsWithoutTLS(t *testing.T) {
	authority := testenv.NewAuthority(t, "ca")
	cert, key := authority.Issue("aggregator", time.Now().Add(time.Hour)).Files(t)
	users := filepath.Join(t.TempDir(), "users.yaml")
	require.NoError(t, os.WriteFile(users, nil, 0o600))
	for name, tc := range map[string]struct {
		addr   string
		change func(*config.Config)
		warned bool
	}{
		"all addresses": {"0.0.0.0:0", func(c *config.Config) { c.HTTP.UsersFile = users }, true},
		"loopback":      {"127.0.0.1:0", func(c *config.Config) { c.HTTP.UsersFile = users }, false},
		"no logins":     {"0.0.0.0:0", func(*config.Config) {}, false},
		"TLS": {"0.0.0.0:0", func(c *config.Config) {
			c.HTTP.UsersFile, c.HTTP.TLSCertFile, c.HTTP.TLSKeyFile = users, cert, key
		}, false},
		"a proxy": {"0.0.0.0:0", func(c *config.Config) {
			c.HTTP.TrustedHeader, c.HTTP.TrustedProxies = "X", []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var said bytes.Buffer
			cfg := config.Default()
			cfg.HTTP.Addr = tc.addr
			tc.change(&cfg)
			listener, err := New(cfg, newTextLog(&said), "v").listen(t.Context())
			require.NoError(t, err)
			require.NoError(t, listener.Close())
			require.Equal(t, tc.warned, strings.Contains(said.String(), "can be read on the network"), said.String())
		})
	}
}
