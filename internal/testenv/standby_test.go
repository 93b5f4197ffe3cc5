package testenv_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// waitsForStandby counts the commits that wait for a synchronous standby.
const waitsForStandby = "pg_stat_activity WHERE wait_event = 'SyncRep'"

// commits writes a row durably, and returns a channel that is closed when that is answered.
func commits(t *testing.T, server *testenv.PostgresServer) (answered chan struct{}) {
	t.Helper()
	conn := connect(t, server.URL("postgres"))
	execute(t, conn, "SET synchronous_commit = on")
	answered = make(chan struct{})
	go func() {
		if _, err := conn.Exec(t.Context(), "INSERT INTO kept VALUES (1)"); err == nil {
			close(answered)
		}
	}()
	return answered
}

func requireAnswered(t *testing.T, answered chan struct{}) {
	t.Helper()
	select {
	case <-answered:
	case <-time.After(time.Minute):
		t.Fatal("the commit is not answered")
	}
}

// waiting waits until as many commits wait.
func waiting(t *testing.T, server *testenv.PostgresServer, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		return count(t, connect(t, server.URL("postgres")), waitsForStandby) == n
	}, time.Minute, 20*time.Millisecond)
}

func TestStandbyFollowsAndTakesOver(t *testing.T) {
	t.Parallel()
	primary := testenv.NewPostgres(t, testenv.Durable())
	execute(t, connect(t, primary.URL("postgres")), "CREATE TABLE kept (n int)")
	standby := testenv.NewStandby(t, primary, "s1", testenv.Setting("work_mem", "5MB"))
	require.Equal(t, 0, count(t, connect(t, standby.URL("postgres")), "kept"), "it has the table by now")
	require.NoError(t, primary.Configure(t.Context(), "synchronous_standby_names", "s1"))

	requireAnswered(t, commits(t, primary))
	require.NoError(t, primary.CaughtUp(t.Context(), "s1"))
	require.NoError(t, primary.Crash())
	require.NoError(t, standby.Promote(t.Context()))

	conn := connect(t, standby.URL("postgres"))
	require.Equal(t, "5MB", show(t, conn, "work_mem"))
	require.Equal(t, "on", show(t, conn, "fsync"))
	require.Empty(t, show(t, conn, "synchronous_standby_names"), "it has none of its own")
	requireAnswered(t, commits(t, standby))
	require.Equal(t, 2, count(t, conn, "kept"))

	second := testenv.NewStandby(t, standby, "s2")
	require.Equal(t, 2, count(t, connect(t, second.URL("postgres")), "kept"))
}

func TestCommitsWaitForASynchronousStandby(t *testing.T) {
	t.Parallel()
	primary := testenv.NewPostgres(t, testenv.Durable())
	execute(t, connect(t, primary.URL("postgres")), "CREATE TABLE kept (n int)")
	standby := testenv.NewStandby(t, primary, "s1")
	require.NoError(t, primary.Configure(t.Context(), "synchronous_standby_names", "s1"))

	require.NoError(t, standby.Freeze())
	answered := commits(t, primary)
	waiting(t, primary, 1)
	require.NoError(t, standby.Thaw())
	requireAnswered(t, answered)

	require.NoError(t, standby.Stop())
	answered = commits(t, primary)
	waiting(t, primary, 1)
	require.NoError(t, standby.Start(t.Context()))
	requireAnswered(t, answered)

	require.NoError(t, standby.Freeze())
	require.NoError(t, standby.Crash(), "also while it is frozen")
	answered = commits(t, primary)
	waiting(t, primary, 1)
	require.NoError(t, primary.Configure(t.Context(), "synchronous_standby_names", ""))
	requireAnswered(t, answered)
	require.ErrorContains(t, standby.Freeze(), "does not run")
}

func TestStandbyThatCannotStart(t *testing.T) {
	t.Parallel()
	primary := testenv.NewPostgres(t)

	_, err := primary.Standby(t.Context(), "s1", testenv.Setting("no_such_setting", "1"))

	require.ErrorContains(t, err, "no_such_setting")
	require.ErrorContains(t, primary.Configure(t.Context(), "no_such_setting", "1"), "no_such_setting")
	_, err = pgx.Connect(t.Context(), primary.URL("postgres"))
	require.NoError(t, err)
}
