package testenv_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// Servers that are started at the same time have their data from one run of initdb, of which the cache keeps the result
// and nothing else, whatever a killed process or another PostgreSQL has left there.
func TestInitdbRunsOnce(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	dir := filepath.Join(cache, "aggregator-testenv")
	require.NoError(t, os.Mkdir(dir, 0o700))
	for _, name := range []string{"postgres-0.tar", "postgres-1.tar.part"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	const servers = 3
	started := make(chan *testenv.PostgresServer, servers)
	for range servers {
		go func() {
			server, err := testenv.StartPostgres(t.Context())
			if err != nil {
				t.Error(err)
			}
			started <- server
		}()
	}
	found := map[string]int{}
	for range servers {
		server := <-started
		require.NotNil(t, server)
		defer func() { require.NoError(t, server.Close()) }()
		found[testenv.Query[string](t, connect(t, server.URL("postgres")),
			`SELECT system_identifier::text FROM pg_control_system()`)]++
	}
	require.Len(t, found, 1, "data of different origin: %v", found)
	archives, err := filepath.Glob(filepath.Join(dir, "postgres-*"))
	require.NoError(t, err)
	require.Len(t, archives, 1)
	require.NotContains(t, []string{"postgres-0.tar", "postgres-1.tar.part"}, filepath.Base(archives[0]))
}

// Where no cache can be kept, initdb runs each time.
func TestWithoutACache(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/dev/null")
	server, err := testenv.StartPostgres(t.Context())
	require.NoError(t, err)
	require.NoError(t, server.Close())
}
