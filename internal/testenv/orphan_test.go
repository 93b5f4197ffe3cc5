package testenv_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

const ownerVariable = "TESTENV_OWN_SERVERS"

// ownServers is the process that TestNothingOutlivesAKilledOwner kills: it starts servers,
// says where they are and never ends.
func ownServers() {
	ctx := context.Background()
	postgres, err := testenv.StartPostgres(ctx)
	if err != nil {
		panic(err)
	}
	redis, err := testenv.StartRedis(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println(postgres.PID(), redis.PID(), postgres.URL("postgres"), redis.URL())
	select {}
}

func TestNothingOutlivesAKilledOwner(t *testing.T) {
	temporary := visibleToAll(t)
	t.Setenv("TMPDIR", temporary)
	self, err := os.Executable()
	require.NoError(t, err)
	owner := exec.CommandContext(t.Context(), self, "-test.run=^$")
	owner.Env = append(os.Environ(), ownerVariable+"=1")
	owner.Stderr = os.Stderr
	output, err := owner.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, owner.Start())
	line, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err)
	var postgresPID, redisPID int
	var postgresURL, redisURL string
	_, err = fmt.Sscan(line, &postgresPID, &redisPID, &postgresURL, &redisURL)
	require.NoError(t, err)
	require.NoError(t, dial(t, redisURL).Ping(t.Context()).Err())
	rows, err := connect(t, postgresURL).Query(t.Context(), "SELECT pid FROM pg_stat_activity")
	require.NoError(t, err)
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(t, err)
	require.NotEmpty(t, pids)
	pids = append(pids, postgresPID, redisPID)

	require.NoError(t, owner.Process.Kill())
	_ = owner.Wait()

	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(pids, func(pid int) bool { return syscall.Kill(pid, 0) != syscall.ESRCH })
	}, 20*time.Second, 10*time.Millisecond)

	abandoned := entries(t, temporary)
	require.Len(t, abandoned, 2)
	for _, dir := range abandoned {
		long := time.Now().Add(-time.Hour)
		require.NoError(t, os.Chtimes(dir, long, long))
	}
	server, err := testenv.StartRedis(t.Context())
	require.NoError(t, err)
	require.NoError(t, server.Close())
	require.Empty(t, entries(t, temporary), "the next to start a server clears up")
}
