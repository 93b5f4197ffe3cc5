package testenv_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

func TestDatabaseAsRole(t *testing.T) {
	t.Parallel()
	conn := connect(t, testenv.As(t, testenv.Database(t), "aggregator_daemon"))

	require.Equal(t, 0, count(t, conn, "aggregator.mark"))
	_, err := conn.Exec(t.Context(), "DROP TABLE aggregator.mark")

	require.ErrorContains(t, err, "must be owner")
}

func TestRedisUsersOutliveRestarts(t *testing.T) {
	t.Parallel()
	server := testenv.NewRedis(t, testenv.Users("likes"))
	url := testenv.RedisAs(t, server.URL(), "aggregator_stream", "likes")
	for range 2 {
		client := dial(t, url)
		require.NoError(t, client.XRange(t.Context(), "likes", "-", "+").Err())
		require.ErrorContains(t, client.Del(t.Context(), "likes").Err(), "NOPERM")
		require.ErrorContains(t, client.XRange(t.Context(), "other", "-", "+").Err(), "NOPERM")
		require.NoError(t, server.Kill())
		require.NoError(t, server.Start(t.Context()))
	}
}
