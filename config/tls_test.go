package config_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

func TestRedisTLS(t *testing.T) {
	isolate(t)
	c, err := load(t)
	require.NoError(t, err)
	secure, err := c.RedisTLS()
	require.NoError(t, err)
	require.Nil(t, secure, "for redis://")

	authority := testenv.NewAuthority(t, "ca")
	cert, key := authority.Issue("client", time.Now().Add(time.Hour)).Files(t)
	t.Setenv("AGGREGATOR_REDIS_URL", secretRedis)
	c, err = load(t, "--redis-tls-ca-file="+authority.File(), "--redis-tls-cert-file="+cert, "--redis-tls-key-file="+key,
		"--redis-tls-server-name=redis.example.com")
	require.NoError(t, err)
	secure, err = c.RedisTLS()
	require.NoError(t, err)
	require.Equal(t, "redis.example.com", secure.ServerName)
	require.NotNil(t, secure.RootCAs)
	require.Len(t, secure.Certificates, 1)
	require.False(t, secure.InsecureSkipVerify)
}

func TestWrongRedisTLS(t *testing.T) {
	authority := testenv.NewAuthority(t, "ca")
	ca := authority.File()
	cert, key := authority.Issue("client", time.Now().Add(time.Hour)).Files(t)
	_, foreign := authority.Issue("other", time.Now().Add(time.Hour)).Files(t)
	for name, tc := range map[string]struct {
		url  string
		args []string
		want string
	}{
		"no TLS": {
			"redis://u:hunter2@h",
			[]string{"--redis-tls-ca-file=" + ca},
			`redis.tls_ca_file = "` + ca + `": only for TLS; write redis.url with rediss://`,
		},
		"no TLS, server name": {
			"unix:///redis.sock",
			[]string{"--redis-tls-server-name=h"},
			`redis.tls_server_name = "h": only for TLS`,
		},
		"no such file": {
			"",
			[]string{"--redis-tls-ca-file=nowhere"},
			`redis.tls_ca_file = "nowhere": no such file or directory`,
		},
		"no certificate": {"", []string{"--redis-tls-ca-file=" + key}, `there is no certificate in PEM form in it`},
		"no key":         {"", []string{"--redis-tls-cert-file=" + cert}, `redis.tls_key_file is missing`},
		"no cert":        {"", []string{"--redis-tls-key-file=" + key}, `redis.tls_cert_file is missing`},
		"cert not there": {
			"",
			[]string{"--redis-tls-cert-file=nowhere", "--redis-tls-key-file=" + key},
			`redis.tls_cert_file = "nowhere": no such file`,
		},
		"key not there": {
			"",
			[]string{"--redis-tls-cert-file=" + cert, "--redis-tls-key-file=nowhere"},
			`redis.tls_key_file = "nowhere": no such file`,
		},
		"not a pair": {
			"",
			[]string{"--redis-tls-cert-file=" + cert, "--redis-tls-key-file=" + foreign},
			`private key does not match`,
		},
		"name with a slash": {
			"",
			[]string{"--redis-tls-server-name=a/b"},
			`redis.tls_server_name = "a/b" (flag --redis-tls-server-name): want the name or address of a host`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			if tc.url == "" {
				tc.url = secretRedis
			}
			t.Setenv("AGGREGATOR_REDIS_URL", tc.url)
			_, err := load(t, tc.args...)
			requireOneLine(t, err, tc.want)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}
