package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// snippets are the pieces of code in docs/producers.md, by language.
func snippets(t *testing.T) map[string][]string {
	t.Helper()
	all := make(map[string][]string)
	for _, found := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(
		documents(t)["docs/producers.md"], -1) {
		all[found[1]] = append(all[found[1]], found[2])
	}
	return all
}

// runSnippet runs one as a program of its own, in the folder of go.mod.
func runSnippet(t *testing.T, env []string, code, file string, command ...string) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), file)
	require.NoError(t, os.WriteFile(path, []byte(code), 0o600))
	cmd := exec.CommandContext(t.Context(), command[0], append(command[1:], path)...)
	cmd.Dir, cmd.Env = "..", append(os.Environ(), env...)
	said, err := cmd.CombinedOutput()
	t.Logf("%s", said)
	return err
}

func entriesOf(t *testing.T, url string) (events []string) {
	t.Helper()
	options, err := redis.ParseURL(url)
	require.NoError(t, err)
	client := redis.NewClient(options)
	defer client.Close()
	entries, err := client.XRange(t.Context(), "book-like-events", "-", "+").Result()
	require.NoError(t, err)
	for _, e := range entries {
		require.Len(t, e.Values, 1)
		events = append(events, e.Values["event"].(string))
	}
	return events
}

// The producers of docs/producers.md push what the aggregator takes, as they stand there.
func TestProducers(t *testing.T) {
	code := snippets(t)
	for language, tc := range map[string]struct {
		file    string
		command []string
	}{
		"python": {"producer.py", []string{"/usr/bin/python3"}},
		"js":     {"producer.js", []string{"node"}},
		"go":     {"producer.go", []string{"go", "run"}},
	} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			url := testenv.Redis(t)
			require.NoError(t, runSnippet(t, []string{"REDIS_URL=" + url, "NODE_PATH=/usr/share/nodejs"},
				code[language][0], tc.file, tc.command...))
			require.Equal(t, []string{"10008:674:LIKE"}, entriesOf(t, url))
		})
	}
}

// The outbox of docs/producers.md pushes each row once, although the relay does not get to know that it did.
func TestOutbox(t *testing.T) {
	t.Parallel()
	code := snippets(t)
	redisURL, database := testenv.Redis(t), testenv.EmptyDatabase(t)
	db, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	defer db.Close(t.Context())
	_, err = db.Exec(t.Context(), code["sql"][0])
	require.NoError(t, err)
	_, err = db.Exec(t.Context(), `INSERT INTO like_outbox (event) SELECT i || ':1:LIKE' FROM generate_series(1, 20) i`)
	require.NoError(t, err)
	// The tenth row is pushed, and that cannot be noted.
	_, err = db.Exec(t.Context(), `ALTER TABLE like_outbox ADD CONSTRAINT fails CHECK (NOT (id = 10 AND pushed))`)
	require.NoError(t, err)
	relay := func() error {
		env := []string{"REDIS_URL=" + redisURL, "DATABASE_URL=" + database}
		return runSnippet(t, env, code["go"][1], "relay.go", "go", "run")
	}
	require.Error(t, relay())
	require.Len(t, entriesOf(t, redisURL), 10)
	_, err = db.Exec(t.Context(), `ALTER TABLE like_outbox DROP CONSTRAINT fails`)
	require.NoError(t, err)
	require.NoError(t, relay())
	events := entriesOf(t, redisURL)
	require.Len(t, events, 20)
	require.Equal(t, "20:1:LIKE", events[19])
}
