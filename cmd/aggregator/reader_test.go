package main

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// What only reads needs only the rights of the readers, on both servers; what writes is
// refused at once, and waits for nothing.
func TestReadersMayRead(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	database, redisURL := testenv.Database(t), testenv.Redis(t)
	admin, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	_, err = admin.PgConn().Exec(
		t.Context(), `INSERT INTO child_profile (id, name) VALUES (1, 'Bori'); INSERT INTO book (id, title) VALUES (1, 'b');
		INSERT INTO child_personality_history (child_profile_id) VALUES (1)`).ReadAll()
	require.NoError(t, err)
	require.NoError(t, admin.Close(t.Context()))
	options, err := redis.ParseURL(redisURL)
	require.NoError(t, err)
	client := redis.NewClient(options)
	defer client.Close()
	require.NoError(t, client.XAdd(
		t.Context(), &redis.XAddArgs{Stream: "book-like-events", Values: []any{"event", "1:1:LIKE"}}).Err())
	require.NoError(t, client.LPush(t.Context(), "BookLikeEventList", "1:1:LIKE").Err())

	reader := []string{
		"AGGREGATOR_POSTGRES_URL=" + testenv.As(t, database, "aggregator_reader"),
		"AGGREGATOR_REDIS_URL=" + testenv.RedisAs(t, redisURL, "aggregator_reader", ""),
	}
	for line, want := range map[string]string{
		"migrate status":                     "applied",
		"history 1":                          "FEEDBACK",
		"checkpoint show":                    "SOURCE",
		"runs":                               "no runs yet",
		"status":                             "book-like-events        1 ",
		"dead list":                          "",
		"drain --dry-run":                    "would apply 1 of 1 event",
		"drain --dry-run --source-kind list": "would apply 1 of 1 event",
	} {
		r := program(t, reader, strings.Fields(line)...)
		require.Zero(t, r.code, "%s: %s", line, r.stderr)
		require.Contains(t, r.stdout, want, line)
	}
	program(t, reader, "drain").requireFailure(t, exitFailed, "permission denied for table checkpoint (SQLSTATE 42501)")

	// With the daemon's rights in PostgreSQL alone it is Redis that refuses.
	half := append([]string{"AGGREGATOR_POSTGRES_URL=" + testenv.As(t, database, "aggregator_daemon")}, reader[1])
	r := program(t, half, "drain")
	require.Equal(t, exitFailed, r.code, r.stderr)
	require.Contains(t, r.stderr, "NOPERM")
}
