package postgres_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/internal/appschema"
	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

func TestAdoptOrigin(t *testing.T) {
	u := testenv.EmptyDatabase(t)
	text, err := os.ReadFile("/work/shared/data/origin-schema.sql")
	require.NoError(t, err)
	admin := openPool(t, u)
	mustExec(t, admin, string(text))
	mustExec(t, admin, `INSERT INTO child_profile (name) VALUES ('a'); INSERT INTO genre (name) VALUES ('g'); INSERT INTO topic (name) VALUES ('t')`)
	_, printed, script := planOf(t, postgres.Options{URL: u})
	fmt.Println(printed)
	_ = script
	require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: u}))
	_, printed, _ = planOf(t, postgres.Options{URL: u})
	fmt.Println(printed)
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: u})
	require.NoError(t, err)
	defer pool.Close()
	d, err := appschema.ReadCurrent(t.Context(), pool, nil)
	require.NoError(t, err)
	for _, f := range d.Findings() {
		fmt.Println(f.Severity, f)
	}
	require.NoError(t, d.Check(true))
	_, err = pool.Exec(t.Context(), `INSERT INTO aggregator.checkpoint (source, position_ms, position_seq, base, entries) VALUES ('s',0,0,0,0)`)
	require.NoError(t, err)
	types := `(SELECT array_agg(id ORDER BY id) FROM mbti)`
	for i := range 3 {
		_, err = pool.Exec(t.Context(), fmt.Sprintf(`SELECT aggregator.apply(1, 's', 0, %d, 0, %d, 0, 1, true, %v, `+types+`, true, 1,0,0,0,0,0,0,0, '{1}', '{2}', '{1}', '{2}')`, i, i+1, i == 2))
		require.NoError(t, err)
	}
	_, err = pool.Exec(t.Context(), `SELECT aggregator.apply_together('s', 0, `+types+`, '{1}','{3}', '{0}', '{4}', '{0}', '{1}', '{true}', '{false}', '{true}', '{1}','{0}','{0}','{0}','{0}','{0}','{0}','{0}', '{1}','{1}', '{1}','{2}', '{1}', '{1}', '{1}', '{2}')`)
	require.NoError(t, err)
	for _, q := range []string{"SELECT * FROM genre_score", "SELECT * FROM public.child_personality_history", "SELECT * FROM mbtiscore", "SELECT * FROM public.favorite_genre", "SELECT * FROM favorite_topic", "SELECT * FROM child_personality_history"} {
		rows, _ := pool.Query(t.Context(), q)
		all, err := pgx.CollectRows(rows, pgx.RowToMap)
		require.NoError(t, err)
		fmt.Println(q, all)
	}
}
