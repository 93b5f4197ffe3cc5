package testenv

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/postgres"
)

const template = "migrated"

// shared is the PostgreSQL of this test process.
var shared struct {
	once      sync.Once
	server    *PostgresServer
	admin     *pgxpool.Pool // of one session: a template serves one CREATE DATABASE at a time
	strategy  string        // of CREATE DATABASE
	err       error
	migrated  sync.Once
	migration error
	databases atomic.Int64
}

// Main runs the tests of a package, removes the servers they shared, calls after and exits. Without it
// the servers end with the process all the same, but leave their folder for the next.
func Main(m *testing.M, after ...func()) {
	code := m.Run()
	for _, f := range after {
		f()
	}
	if shared.server != nil {
		if err := shared.server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "testenv:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// Long leaves a test out of go test -short: it is one of those that take the most time of a package.
func Long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes long")
	}
}

// Database returns the URL of a new, migrated database for this test alone, as its
// superuser; see As for the roles of config/roles.sql. It is dropped after the test, with
// all sessions that are still connected.
func Database(t testing.TB) string {
	t.Helper()
	return newDatabase(t, template)
}

// EmptyDatabase is Database without the migrations.
func EmptyDatabase(t testing.TB) string {
	t.Helper()
	return newDatabase(t, "template1")
}

// Redis returns the URL of a server for this test alone, ended after the test.
func Redis(t testing.TB) string {
	t.Helper()
	return NewRedis(t).URL()
}

// NewRedis starts a server that this test may do anything to, ended after the test.
func NewRedis(t testing.TB, opts ...RedisOption) *RedisServer {
	t.Helper()
	server, err := StartRedis(t.Context(), opts...)
	if err != nil {
		t.Fatalf("start Redis: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("close Redis: %v", err)
		}
	})
	return server
}

// NewPostgres starts a server that this test may do anything to, ended after the test. It
// takes a second or two; where a database will do, take that.
func NewPostgres(t testing.TB, opts ...PostgresOption) *PostgresServer {
	t.Helper()
	server, err := StartPostgres(t.Context(), opts...)
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("close PostgreSQL: %v", err)
		}
	})
	return server
}

func newDatabase(t testing.TB, from string) string {
	t.Helper()
	// The server outlives the test that happens to start it.
	ctx := context.WithoutCancel(t.Context())
	shared.once.Do(func() { shared.err = startShared(ctx) })
	if shared.err != nil {
		t.Fatalf("start PostgreSQL: %v", shared.err)
	}
	if from == template {
		shared.migrated.Do(func() { shared.migration = migrateTemplate(ctx) })
		if shared.migration != nil {
			t.Fatalf("migrate the template database: %v", shared.migration)
		}
	}

	name := fmt.Sprintf("test_%d", shared.databases.Add(1))
	if _, err := shared.admin.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+from+shared.strategy); err != nil {
		t.Fatalf("create test database: %v", err)
	}
	t.Cleanup(func() {
		if _, err := shared.admin.Exec(ctx, dropDatabase(name)); err != nil {
			t.Errorf("drop test database: %v", err)
		}
	})
	return shared.server.URL(name)
}

func startShared(ctx context.Context) error {
	server, err := StartPostgres(ctx, inMemory)
	if err != nil {
		return err
	}
	shared.server = server // from now on Main closes it
	options, err := pgxpool.ParseConfig(server.URL("postgres"))
	if err != nil {
		return err
	}
	options.MaxConns = 1
	if shared.admin, err = pgxpool.NewWithConfig(ctx, options); err != nil {
		return err
	}
	// Copying the files costs half of what copying through the log does, which is the default since there is a choice.
	const find = `SELECT CASE WHEN current_setting('server_version_num')::int >= 150000 THEN ' STRATEGY file_copy'
		ELSE '' END`
	return shared.admin.QueryRow(ctx, find).Scan(&shared.strategy)
}

func migrateTemplate(ctx context.Context) error {
	url, err := shared.server.CreateDatabase(ctx, template, "")
	if err != nil {
		return err
	}
	if err := postgres.Migrate(ctx, postgres.Options{URL: url}); err != nil {
		return err
	}
	return Grant(ctx, url)
}

// EncodedDatabase is Database in another encoding than UTF-8, such as EUC_KR.
func EncodedDatabase(t testing.TB, encoding string) string {
	t.Helper()
	url := EmptyDatabase(t) // for its name, which is taken over
	ctx := context.WithoutCancel(t.Context())
	name := url[strings.LastIndex(url, "/")+1 : strings.Index(url, "?")]
	err := shared.server.DropDatabase(ctx, name)
	if err == nil {
		err = shared.server.execute(ctx, fmt.Sprintf(
			`CREATE DATABASE %s TEMPLATE template0 ENCODING '%s' LOCALE 'C'`, name, encoding))
	}
	if err == nil {
		err = postgres.Migrate(ctx, postgres.Options{URL: url})
	}
	if err == nil {
		err = Grant(ctx, url)
	}
	if err != nil {
		t.Fatalf("create a database in %s: %v", encoding, err)
	}
	return url
}
