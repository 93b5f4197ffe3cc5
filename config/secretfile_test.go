package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/config"
)

const (
	secretRedis    = "rediss://u:hunter2@h:1/0"
	secretPostgres = "postgres://u:hunter2@h/db?sslmode=verify-full"
)

func TestURLsFromFiles(t *testing.T) {
	isolate(t)
	writeFile(t, "r", "\n "+secretRedis+" \r\n")
	writeFile(t, "p", secretPostgres)
	t.Setenv("AGGREGATOR_POSTGRES_URL_FILE", "p")
	c, err := load(t, "--redis-url-file=r")
	require.NoError(t, err)
	require.EqualValues(t, secretRedis, c.Redis.URL)
	require.EqualValues(t, secretPostgres, c.Postgres.URL)

	var origins, plain strings.Builder
	require.NoError(t, c.Print(&origins, true))
	require.NoError(t, c.Print(&plain, false))
	require.NotContains(t, origins.String()+plain.String()+fmt.Sprintf("%+v %#v", c, c), "hunter2")
	for _, line := range []string{
		"  # url: rediss://u:xxxxx@h:1/0  # file r\n",
		"  url_file: r  # flag --redis-url-file\n",
		"  # url: postgres://u:xxxxx@h/db?sslmode=verify-full  # file p\n",
		"  url_file: p  # env AGGREGATOR_POSTGRES_URL_FILE\n",
	} {
		require.Contains(t, origins.String(), line)
	}

	// What is printed can be read again.
	writeFile(t, "aggregator.yaml", plain.String())
	require.NoError(t, os.Unsetenv("AGGREGATOR_POSTGRES_URL_FILE"))
	c, err = load(t)
	require.NoError(t, err)
	require.EqualValues(t, secretRedis, c.Redis.URL)
	require.EqualValues(t, secretPostgres, c.Postgres.URL)
}

func TestURLsFromCredentials(t *testing.T) {
	isolate(t)
	dir := credentials(t, map[string]string{
		"redis-url": secretRedis + "\n", "postgres-url": secretPostgres, "other": "hunter2",
	})
	c, err := load(t)
	require.NoError(t, err)
	require.EqualValues(t, secretRedis, c.Redis.URL)
	require.EqualValues(t, secretPostgres, c.Postgres.URL)
	var origins strings.Builder
	require.NoError(t, c.Print(&origins, true))
	require.Contains(t, origins.String(), "  url: rediss://u:xxxxx@h:1/0  # file "+filepath.Join(dir, "redis-url")+"\n")
	require.NotContains(t, origins.String(), "hunter2")
}

// What is set, in whatever way, wins over a credential.
func TestCredentialsComeLast(t *testing.T) {
	isolate(t)
	writeFile(t, "r", "redis://file")
	credentials(t, map[string]string{"redis-url": secretRedis, "postgres-url": secretPostgres})
	t.Setenv("DATABASE_URL", "postgres://variable/db")
	c, err := load(t, "--redis-url-file=r")
	require.NoError(t, err)
	require.EqualValues(t, "redis://file", c.Redis.URL)
	require.EqualValues(t, "postgres://variable/db", c.Postgres.URL)
}

// A service may be given other credentials than ours, or a folder that is gone.
func TestCredentialsMayBeMissing(t *testing.T) {
	isolate(t)
	credentials(t, nil)
	c, err := load(t)
	require.NoError(t, err)
	require.Equal(t, config.Default().Redis, c.Redis)
	t.Setenv("CREDENTIALS_DIRECTORY", "nowhere")
	_, err = load(t)
	require.NoError(t, err)
}

func TestWrongSecretFiles(t *testing.T) {
	for name, tc := range map[string]struct {
		env  map[string]string
		want string
	}{
		"missing": {
			map[string]string{"AGGREGATOR_REDIS_URL_FILE": "nowhere"},
			`redis.url_file = "nowhere": no such file or directory`,
		},
		"empty": {
			map[string]string{"AGGREGATOR_REDIS_URL_FILE": "empty"},
			`redis.url_file = "empty": is empty: want a URL`,
		},
		"directory": {map[string]string{"AGGREGATOR_POSTGRES_URL_FILE": "."}, `postgres.url_file = ".": is a directory`},
		"endless": {
			map[string]string{"AGGREGATOR_POSTGRES_URL_FILE": "/dev/zero"},
			`postgres.url_file = "/dev/zero": too long`,
		},
		"no Redis URL": {
			map[string]string{"AGGREGATOR_REDIS_URL_FILE": "password"},
			`redis.url (file password): not a valid Redis URL`,
		},
		"no PostgreSQL URL": {
			map[string]string{"AGGREGATOR_POSTGRES_URL_FILE": "password"},
			`postgres.url (file password): not a valid PostgreSQL URL`,
		},
		"two lines": {
			map[string]string{"AGGREGATOR_REDIS_URL_FILE": "two"},
			`redis.url (file two): not a valid Redis URL`,
		},
		"both": {
			map[string]string{"AGGREGATOR_REDIS_URL_FILE": "good", "AGGREGATOR_REDIS_URL": "redis://u:hunter2@h"},
			`redis.url (env AGGREGATOR_REDIS_URL) and redis.url_file (env AGGREGATOR_REDIS_URL_FILE): set only one of them`,
		},
		"both, by the fallback": {
			map[string]string{"AGGREGATOR_POSTGRES_URL_FILE": "good", "DATABASE_URL": "postgres://u:hunter2@h/db"},
			`postgres.url (env DATABASE_URL) and postgres.url_file (env AGGREGATOR_POSTGRES_URL_FILE): set only one of them`,
		},
		"control characters": {
			map[string]string{"AGGREGATOR_REDIS_URL_FILE": "a\tb"},
			`redis.url_file = "a\tb" (env AGGREGATOR_REDIS_URL_FILE): want the name of a file`,
		},
		"credential": {
			map[string]string{"CREDENTIALS_DIRECTORY": "credentials"},
			`redis.url = "credentials/redis-url": is a directory`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			writeFile(t, "good", secretRedis)
			writeFile(t, "password", "hunter2")
			writeFile(t, "two", secretRedis+"\n"+secretRedis+"\n")
			writeFile(t, "empty", " \n")
			require.NoError(t, os.MkdirAll("credentials/redis-url", 0o700))
			for variable, value := range tc.env {
				t.Setenv(variable, value)
			}
			_, err := load(t)
			requireOneLine(t, err, tc.want)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

// credentials are what systemd gives a service.
func credentials(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		writeFile(t, filepath.Join(dir, name), text)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	return dir
}
