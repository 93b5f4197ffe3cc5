package postgres_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/internal/postgres"
)

func TestDescribe(t *testing.T) {
	for name, tc := range map[string]struct{ url, want string }{
		"plain":              {"postgres://u:pw@db.example:5432/app", "db.example:5432/app"},
		"default port":       {"postgres://u:pw@db.example/app", "db.example:5432/app"},
		"encoded password":   {"postgres://u:p%40w%2F@db.example/app", "db.example:5432/app"},
		"password parameter": {"postgres://u@db.example/app?password=pw&sslmode=disable", "db.example:5432/app"},
		"IPv6":               {"postgres://u@[::1]:5433/app", "[::1]:5433/app"},
		"two hosts":          {"postgres://u@a:1,b:2/app?sslmode=prefer", "a:1,b:2/app"},
		"socket":             {"postgres:///app?host=/run/postgresql&user=u", "/run/postgresql:5432/app"},
		"keywords":           {"host=h port=6 dbname=app password='a b' user=u", "h:6/app"},
		"odd keyword":        {"host=/tmp password='a://b@c' dbname=app", "/tmp:5432/app"},
		"no URL":             {"postgres://u:pw@db.example:port/app", "(invalid URL)"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.want, postgres.Describe(tc.url))
		})
	}
}

func TestEmptyURLMeansLibpqVariables(t *testing.T) {
	t.Setenv("PGHOST", "pg.example")
	t.Setenv("PGPORT", "6432")
	t.Setenv("PGDATABASE", "books")
	require.NoError(t, postgres.CheckURL(""))
	require.Equal(t, "pg.example:6432/books", postgres.Describe(""))
}

func TestCheckURLNeverShowsThePassword(t *testing.T) {
	for name, url := range map[string]string{
		"port":                  "postgres://u:hunter2@h:port/db",
		"slash in password":     "postgres://u:hunter2/x@h/db",
		"digits before a slash": "postgres://u:123/hunter2@h/db",
		"at sign in password":   "postgres://u:hun@hunter2@h/db",
		"colons":                "postgres://a@u:hunter2:x@h/db",
		"broken percent form":   "postgres://u:hunter2%zz@h/db",
		"password parameter":    "postgres://u@h/db?sslmode=wrong&password=hunter2",
		"encoded name":          "postgres://u@h/db?sslmode=wrong&pass%77ord=hunter2",
		"key password":          "postgres://u@h/db?sslmode=wrong&sslpassword=hunter2",
		"pool setting":          "postgres://u:hunter2@h/db?pool_max_conns=many",
		"keywords":              "host=h password=hunter2 sslmode=wrong",
		"quoted keyword":        "host=h password='hunter2 x' sslmode=wrong",
		"unterminated quote":    "host=h password='hunter2",
		"no scheme":             "u:hunter2@h:5432/db",
		"backquote":             "postgres://u:x`: hunter2@h:port/db",
		"other scheme":          "mysql://u:hunter2@h/db",
	} {
		t.Run(name, func(t *testing.T) {
			err := postgres.CheckURL(url)
			require.ErrorIs(t, err, postgres.ErrURL)
			require.NotContains(t, err.Error(), "hunter2")
			require.NotContains(t, err.Error(), "\n")
			require.NotContains(t, postgres.Describe(url), "hunter2")
		})
	}
}

func TestCheckURLTakesWhatIsOne(t *testing.T) {
	for _, url := range []string{
		"", "postgres://", "postgresql://", "postgresql:///app", "postgres://u:pw@/app?host=/tmp", "postgresql://%2Ftmp/app",
		"postgres://a,b:2/app",
		"postgres://u:p'w\"@h/app", "postgresql://u@h/app?options=-c%20geqo%3Doff", "postgres://h/app?synchronous_commit=on",
		"host=/run/postgresql dbname=app", "host = h  password = 'it\\'s'", " host=h\n", "sslpassword=a://b host=h",
		"dbname=app", "password=a://b host=h",
		"host=h TimeZone=UTC", "host=h app.url=x",
	} {
		t.Run(url, func(t *testing.T) {
			require.NoError(t, postgres.CheckURL(url))
		})
	}
}

func TestCheckURLRefusesWhatIsNone(t *testing.T) {
	const url = "postgres://u:hunter2@h:5432/app?sslmode=disable"
	for _, text := range []string{
		`"` + url + `"`, "'" + url + "'", "`" + url + "`", url + `"`, `"` + url, " " + url, url + " ", url + "\n", "\t" + url,
		"\ufeff" + url, "<" + url + ">",
		"postgresql+asyncpg://u:hunter2@h/app?x=y", "postgres+psycopg2://u:hunter2@h/app?x=y",
		"jdbc:postgresql://h/app?user=u&password=hunter2",
		"POSTGRES://u:hunter2@h/app?x=y", "postgres:/u:hunter2@h/app?x=y", "postgres//u:hunter2@h/app?x=y",
		"pg://u:hunter2@h/app?x=y", "postgis://u:hunter2@h/app?x=y",
		"http://h:5432/?password=hunter2", "https://h/?x=y", "redis://:hunter2@h:6379/0?x=y", "mysql://u:hunter2@h/app?x=y",
		"tcp://10.0.0.1:5432?x=y",
		"localhost:5432", "localhost:5432/app?password=hunter2", "u:hunter2@h/app?x=y", "//u:hunter2@h/app?x=y",
		"/run/postgresql?x=y",
		"DATABASE_URL=" + url, "export DATABASE_URL=" + url, "url='" + url + "'", "dbname=" + url, "psql " + url,
		"psql '" + url + "'",
		"Host=h;Port=5432;Database=app;Username=u;Password=hunter2", "Server=h;User Id=u;Password=hunter2",
		"host=h username=u password=hunter2", "hostaddr=10.0.0.1 dbname=app",
		"HOST=h PASSWORD=hunter2", "${POSTGRES_URL:=x}", "$POSTGRES_URL", "=", " ", "\n", "host", `{"url": "x=` + url + `"}`,
	} {
		t.Run(text, func(t *testing.T) {
			err := postgres.CheckURL(text)
			require.ErrorIs(t, err, postgres.ErrURL)
			require.NotContains(t, err.Error(), "hunter2")
			require.NotContains(t, err.Error(), "\n")
			require.Equal(t, "(invalid URL)", postgres.Describe(text))
		})
	}
}

func TestErrorsOfConnectingNameTheServerOnly(t *testing.T) {
	const server = "127.0.0.1:1/app"
	for name, url := range map[string]string{
		"userinfo":           "postgres://u:hunter2@127.0.0.1:1/app",
		"percent form":       "postgres://u:%68unter2@127.0.0.1:1/app",
		"password parameter": "postgres://u@127.0.0.1:1/app?password=hunter2&connect_timeout=2",
		"keywords":           "host=127.0.0.1 port=1 dbname=app user=u password=hunter2",
	} {
		t.Run(name, func(t *testing.T) {
			for what, err := range map[string]error{
				"open":    open(t.Context(), url),
				"migrate": postgres.Migrate(t.Context(), postgres.Options{URL: url}),
				"status":  status(t.Context(), url),
			} {
				require.ErrorIs(t, err, postgres.ErrUnreachable, what)
				require.Contains(t, err.Error(), "PostgreSQL at "+server+" is not reachable: connection refused", what)
				require.NotContains(t, err.Error(), "hunter2", what)
				require.NotContains(t, err.Error(), "\n", what)
			}
		})
	}
}

func TestCancelledIsNotUnreachable(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := open(ctx, "postgres://u@127.0.0.1:1/app")
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, postgres.ErrUnreachable)
}

func open(ctx context.Context, url string) error {
	pool, err := postgres.Open(ctx, postgres.Options{URL: url})
	if err == nil {
		pool.Close()
	}
	return err
}

func status(ctx context.Context, url string) error {
	_, err := postgres.MigrationStatus(ctx, postgres.Options{URL: url})
	return err
}
