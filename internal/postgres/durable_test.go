package postgres_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

// A statement that is given up goes on in the server: no cancel request is sent, for it could end a
// commit's wait for a standby.
func TestGivingUpCancelsNothing(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	base := testenv.EmptyDatabase(t)
	for _, tls := range []string{"disable", "prefer"} {
		t.Run(tls, func(t *testing.T) {
			t.Parallel()
			givingUpCancelsNothing(t, with(t, base, url.Values{"sslmode": {tls}}))
		})
	}
}

func givingUpCancelsNothing(t *testing.T, url string) {
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: url, ApplicationName: t.Name()})
	require.NoError(t, err)
	defer pool.Close()
	watch, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	defer watch.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := pool.Exec(ctx, `SELECT pg_sleep(2) /* slow */`)
		ended <- err
	}()
	sleeping := func() (n int) {
		err := watch.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE application_name = $1 AND state = 'active' AND query LIKE '%slow%'`, t.Name()).Scan(&n)
		require.NoError(t, err)
		return n
	}
	require.Eventually(t, func() bool { return sleeping() == 1 }, time.Minute, time.Millisecond)
	began := time.Now()
	cancel()
	require.Error(t, <-ended)
	for time.Since(began) < 300*time.Millisecond { // a cancel request would have arrived by now
		if time.Since(began) < 200*time.Millisecond {
			require.Equal(t, 1, sleeping())
		}
	}
}

// A database in another encoding has no place for some characters: they are escaped there.
func TestText(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	korean := testenv.EncodedDatabase(t, "EUC_KR")
	for database, want := range map[string]string{url: "좋아 😀\u00e9", korean: `\uc88b\uc544 \U0001f600\u00e9`} {
		pool, err := postgres.Open(t.Context(), postgres.Options{URL: database})
		require.NoError(t, err)
		defer pool.Close()
		var one string
		var all []string
		rows, _ := pool.Query(t.Context(), `SELECT $1::text, $2::text[]`, postgres.Text("좋아 😀\u00e9"),
			postgres.Texts([]string{"좋아 😀\u00e9", "plain"}))
		_, err = pgx.ForEachRow(rows, []any{&one, &all}, func() error { return nil })
		require.NoError(t, err)
		require.Equal(t, want, one)
		require.Equal(t, []string{want, "plain"}, all)
	}
}
