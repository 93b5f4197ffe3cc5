package postgres_test

import (
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

// A URL that leads to the other server is told apart from an outage, which passes.
func TestAnotherServerAnswers(t *testing.T) {
	testenv.Long(t)
	_, redis, _ := strings.Cut(testenv.Redis(t), "//")
	redis, _, _ = strings.Cut(redis, "/")
	for _, mode := range []string{"disable", "prefer", "require"} {
		_, err := postgres.Open(t.Context(),
			postgres.Options{URL: "postgres://u:hunter2@" + redis + "/app?connect_timeout=1&sslmode=" + mode})
		require.ErrorIs(t, err, postgres.ErrURL)
		require.NotErrorIs(t, err, postgres.ErrUnreachable)
		require.ErrorContains(t, err, "the server at "+redis+"/app answers, but does not speak PostgreSQL: it is a Redis")
		require.NotContains(t, err.Error(), "hunter2")
	}

	_, host, _ := strings.Cut(testenv.EmptyDatabase(t), "@")
	host, _, _ = strings.Cut(host, "/")
	require.True(t, postgres.IsPostgres(t.Context(), "tcp", host))
	require.False(t, postgres.IsPostgres(t.Context(), "tcp", redis))
	require.False(t, postgres.IsPostgres(t.Context(), "tcp", "127.0.0.1:1"))
}

// What says nothing may be a PostgreSQL that cannot answer just now.
func TestSilentServerIsUnreachable(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	_, err = postgres.Open(t.Context(),
		postgres.Options{URL: "postgres://u@" + listener.Addr().String() + "/app?connect_timeout=1&sslmode=disable"})
	require.ErrorIs(t, err, postgres.ErrUnreachable)
	require.ErrorContains(t, err, "no answer in time")
}
