package apply

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// A trial that waits for the marks, which a reset has locked, has no lock that the reset needs next: otherwise
// PostgreSQL ends one of the two as a deadlock.
func TestTrialLocksInOrder(t *testing.T) {
	u := testenv.Database(t)
	pool, err := pgxpool.New(t.Context(), u)
	require.NoError(t, err)
	defer pool.Close()
	testenv.Execute(t, pool, `INSERT INTO child_profile (id, name) VALUES (1, 'Anna')`)

	reset, err := pgx.Connect(t.Context(), u)
	require.NoError(t, err)
	defer reset.Close(t.Context())
	testenv.Execute(t, reset, `BEGIN`)
	testenv.Execute(t, reset, `LOCK TABLE aggregator.mark IN SHARE ROW EXCLUSIVE MODE`)

	tried := make(chan error)
	go func() {
		for { // it may have given up before it was seen waiting
			if err := Trial(t.Context(), pool, "likes", false); !errors.Is(err, ErrBusy) {
				tried <- err
				return
			}
		}
	}()
	require.Eventually(t, func() bool {
		return testenv.Query[bool](t, reset,
			`SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'aggregator.mark'::regclass AND NOT granted)`)
	}, time.Minute, time.Millisecond)
	testenv.Execute(t, reset, `LOCK TABLE aggregator.checkpoint IN ACCESS EXCLUSIVE MODE NOWAIT`)
	testenv.Execute(t, reset, `ROLLBACK`)
	require.NoError(t, <-tried)
}
