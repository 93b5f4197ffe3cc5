package service

import (
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/config"
	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

func TestOpenRedis(t *testing.T) {
	server, err := withRedis(t, testenv.Redis(t)+"?max_retries=5", "").OpenRedis(t.Context(), 2)
	require.NoError(t, err)
	client := server.Client.(*redis.Client)
	defer client.Close()
	options := client.Options()
	require.Zero(t, options.MaxRetries) // -1 as the client has it: none
	require.Equal(t, 2, options.PoolSize)
	name, err := client.ClientInfo(t.Context()).Result()
	require.NoError(t, err)
	require.Empty(t, name.LibName) // said nothing about itself
}

func TestOpenRedisUnreachable(t *testing.T) {
	for name, tc := range map[string]struct{ url, want string }{
		"nobody listens": {"redis://u:hunter2@127.0.0.1:1/3", "Redis at 127.0.0.1:1/3 is not reachable: connection refused"},
		"no such host": {
			"redis://u:hunter2@nowhere.invalid:1",
			"Redis at nowhere.invalid:1 is not reachable: lookup nowhere.invalid",
		},
		"no such socket": {
			"unix://u:hunter2@/nowhere.sock",
			"Redis at /nowhere.sock is not reachable: no such file or directory",
		},
		"loading": {
			"redis://" + answering(t, "-LOADING Redis is loading the dataset in memory\r\n"),
			"is not reachable: LOADING Redis is loading",
		},
		"closes at once":  {"redis://" + answering(t, ""), "is not reachable: EOF"},
		"wrong password":  {withPassword(t, "wronghunter2"), "refused the connection: WRONGPASS"},
		"too few answers": {"redis://" + answering(t, "?") + "?read_timeout=100ms", "is not reachable: "},
	} {
		t.Run(name, func(t *testing.T) {
			server, err := withRedis(t, tc.url, "").OpenRedis(t.Context(), 1)
			require.Nil(t, server)
			require.ErrorIs(t, err, ErrRedisUnreachable)
			require.Equal(t, name == "wrong password", Refused(err))
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, err.Error(), "hunter2")
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

// The URL of a PostgreSQL in place of one of Redis is a mistake, and no outage.
func TestOpenRedisAtPostgres(t *testing.T) {
	u, err := url.Parse(testenv.EmptyDatabase(t))
	require.NoError(t, err)
	for _, scheme := range []string{"redis", "rediss"} {
		server, err := withRedis(t, scheme+"://u:hunter2@"+u.Host+"/1", "").OpenRedis(t.Context(), 1)
		require.Nil(t, server)
		require.ErrorContains(t, err,
			"the server at "+u.Host+"/1 answers, but does not speak Redis: it is a PostgreSQL; have redis.url and "+
				"postgres.url been swapped?")
		require.NotContains(t, err.Error(), "hunter2")
		require.ErrorIs(t, err, config.ErrInvalid)
		require.NotErrorIs(t, err, ErrRedisUnreachable)
	}
}

func TestOpenTopologyUnreachable(t *testing.T) {
	sentinel := testenv.NewSentinel(t)
	known := sentinel.URL()
	for name, tc := range map[string]struct {
		mode, url string
		refused   bool
		want      string
	}{
		"no Sentinel": {
			"sentinel", "redis://u:hunter2@127.0.0.1:1?master_name=m&addr=127.0.0.1:2", false,
			"Redis at m by the Sentinels at 127.0.0.1:1,127.0.0.1:2 is not reachable: connection refused",
		},
		"wrong name": {
			"sentinel", strings.Replace(known, "master_name=main", "master_name=other", 1), false,
			"they know no server of this name",
		},
		"wrong password": {"sentinel", known + "&username=u&password=hunter2", true, "refused the connection: WRONGPASS"},
		"no node": {
			"cluster", "redis://u:hunter2@127.0.0.1:1?addr=127.0.0.1:2", false,
			"Redis at cluster 127.0.0.1:1,127.0.0.1:2 is not reachable: connection refused",
		},
		"no cluster": {"cluster", testenv.Redis(t), true, "cluster support disabled"},
	} {
		t.Run(name, func(t *testing.T) {
			server, err := withRedis(t, tc.url, tc.mode).OpenRedis(t.Context(), 1)
			require.Nil(t, server)
			require.ErrorIs(t, err, ErrRedisUnreachable)
			require.Equal(t, tc.refused, Refused(err))
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, err.Error(), "hunter2")
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

// withRedis is an instance that is told of a Redis only.
func withRedis(t *testing.T, url, mode string) *Instance {
	t.Helper()
	cfg := config.Default()
	cfg.Redis.URL = config.URL(url)
	if mode != "" {
		cfg.Redis.Mode = mode
	}
	return New(cfg, testLog(t), "v")
}

// withPostgres is an instance that is told of a PostgreSQL only.
func withPostgres(t *testing.T, url string) *Instance {
	t.Helper()
	cfg := config.Default()
	cfg.Postgres.URL = config.URL(url)
	return New(cfg, testLog(t), "v")
}

func TestOpenPostgres(t *testing.T) {
	pool, err := withPostgres(t, testenv.As(t, testenv.Database(t), "aggregator_daemon")).OpenPostgres(t.Context(), 3)
	require.NoError(t, err)
	defer pool.Close()
	require.EqualValues(t, 3, pool.Config().MaxConns)
}

func TestOpenPostgresNotMigrated(t *testing.T) {
	url := testenv.EmptyDatabase(t)
	_, err := withPostgres(t, url).OpenPostgres(t.Context(), 3)
	require.ErrorIs(t, err, postgres.ErrSchema)
	require.EqualError(t, err, "the database schema is incompatible: that of PostgreSQL at "+postgres.Describe(url)+
		" has not been created; run: aggregator migrate up")
}

// answering is the address of a server that says the same to whoever connects, and hangs up.
func answering(t *testing.T, text string) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			request := make([]byte, 4096)
			for _, err := conn.Read(request); err == nil && text != ""; _, err = conn.Read(request) {
				_, _ = conn.Write([]byte(text))
			}
			_ = conn.Close()
		}
	}()
	return listener.Addr().String()
}

// withPassword is the URL of a server that has a password, with another one.
func withPassword(t *testing.T, wrong string) string {
	t.Helper()
	base := testenv.Redis(t)
	opts, err := redis.ParseURL(base)
	require.NoError(t, err)
	client := redis.NewClient(opts)
	defer client.Close()
	require.NoError(t, client.ConfigSet(t.Context(), "requirepass", "right").Err())
	u, err := url.Parse(base)
	require.NoError(t, err)
	u.User = url.UserPassword("default", wrong)
	return strings.TrimSuffix(u.String(), "?")
}
