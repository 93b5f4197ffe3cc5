//go:build faults

package faults_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// Instances overlap, are killed, and PostgreSQL crashes, all through PgBouncer, which has
// three sessions for all of them.
func TestPgBouncerFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{postgres: own, pooled: true})
	w.push(6000)
	for range 3 {
		d, killed := w.start("run"), w.start("run")
		before, err := w.count()
		require.NoError(t, err)
		w.until("they are at work", func() bool {
			n, err := w.count()
			return err == nil && n < before
		})
		killed.kill()
		w.crash()
		// PgBouncer lets nobody in for a while after it could not get in itself.
		w.until("PgBouncer lets us in again", func() bool {
			conn, err := pgx.Connect(t.Context(), w.postgresURL+"&default_query_exec_mode=exec")
			if err == nil {
				err = errors.Join(conn.Ping(t.Context()), conn.Close(t.Context()))
			}
			return err == nil
		})
		require.True(t, d.running())
		w.push(1000)
		d.kill()
	}
	require.EqualValues(t, 9000, w.finish().Pushed)
}
