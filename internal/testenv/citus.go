package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Citus is a private coordinator with workers.
type Citus struct {
	Coordinator *PostgresServer
	Workers     []*PostgresServer
}

// NewCitus starts a coordinator and so many workers for a test, ended after it. Where the extension is not installed
// beside PostgreSQL the test is skipped.
func NewCitus(t testing.TB, workers int) *Citus {
	t.Helper()
	shared, err := exec.CommandContext(t.Context(), "pg_config", "--sharedir").Output()
	control := filepath.Join(strings.TrimSpace(string(shared)), "extension", "citus.control")
	if err == nil {
		_, err = os.Stat(control)
	}
	if err != nil {
		t.Skipf("Citus is not installed: %v", err)
	}
	options := []PostgresOption{
		Durable(), Setting("shared_preload_libraries", "citus"), Setting("max_prepared_transactions", "200"),
		Setting("citus.node_conninfo", "sslmode=disable"), Setting("citus.enable_statistics_collection", "off"),
		Setting("citus.recover_2pc_interval", "2s"),
	}
	c := &Citus{Coordinator: NewPostgres(t, options...)}
	for range workers {
		c.Workers = append(c.Workers, NewPostgres(t, options...))
	}
	return c
}

// CreateDatabase creates a database on all nodes, which know each other in it, and returns its URL on the coordinator.
func (c *Citus) CreateDatabase(ctx context.Context, name string) (string, error) {
	for _, node := range append([]*PostgresServer{c.Coordinator}, c.Workers...) {
		if _, err := node.CreateDatabase(ctx, name, ""); err != nil {
			return "", err
		}
		if err := executeIn(ctx, node.URL(name), `CREATE EXTENSION citus`); err != nil {
			return "", err
		}
	}
	url := c.Coordinator.URL(name)
	statements := []string{fmt.Sprintf(`SELECT citus_set_coordinator_host('127.0.0.1', %d)`, c.Coordinator.port)}
	for _, worker := range c.Workers {
		statements = append(statements, fmt.Sprintf(`SELECT citus_add_node('127.0.0.1', %d)`, worker.port))
	}
	return url, executeIn(ctx, url, statements...)
}

func executeIn(ctx context.Context, url string, statements ...string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	for _, statement := range statements {
		if _, err = conn.Exec(ctx, statement); err != nil {
			break
		}
	}
	return errors.Join(err, conn.Close(ctx))
}
