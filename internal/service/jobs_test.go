package service

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"aggregator/internal/runs"
	"aggregator/internal/searchtext"
	"aggregator/internal/testenv"
)

// While it works, it can be asked how far it is.
func TestSearchTextCountsMeanwhile(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), testenv.Database(t))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	_, err = pool.Exec(t.Context(), `INSERT INTO book (id, title) SELECT i, 'Moon' FROM generate_series(1, 1001) i`)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(),
		`CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN `+
			`NEW; END'`)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(),
		`CREATE TRIGGER wait BEFORE UPDATE ON book FOR EACH ROW WHEN (new.id = 1001) EXECUTE FUNCTION wait()`)
	require.NoError(t, err)
	holder, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = holder.Exec(t.Context(), `SELECT pg_advisory_xact_lock(1)`)
	require.NoError(t, err)

	r := NewTextRefresh(pool, searchtext.Options{})
	ended := make(chan error)
	go func() {
		_, err := r.Do(t.Context())
		ended <- err
	}()
	require.Eventually(t, func() bool {
		return r.Counts() == runs.Counts{Read: 1000, Applied: 1000}
	}, patience, 10*time.Millisecond)
	require.NoError(t, holder.Commit(t.Context()))
	require.NoError(t, <-ended)
	require.Equal(t, runs.Counts{Read: 1001, Applied: 1001}, r.Counts())
}
