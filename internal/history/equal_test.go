package history_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/history"
	"aggregator/internal/scores"
)

// One profile has a statement of its own, several share others: both must come to the same
// scores and the same history, whatever was there before.
func TestOneIsAsMany(t *testing.T) {
	pool := connect(t)
	exec(t, pool, `INSERT INTO child_profile (id, name) SELECT i, 'c' FROM generate_series(100, 300) i`)
	rng := rand.New(rand.NewPCG(3, 4))
	const alone, together = 100, 200
	for range 4 {
		var many []scores.Delta
		for i := range int64(40) {
			sums := func(table string) (list []scores.Sum) {
				for id := range int64(5) {
					if rng.IntN(2) == 0 {
						value := float64(rng.IntN(9)-4) / 2
						exec(t, pool, `INSERT INTO `+table+` VALUES ($1, $2, $3), ($4, $2, $3) ON CONFLICT DO NOTHING`, alone+i, id+1, value, together+i)
					}
					if rng.IntN(2) == 0 {
						list = append(list, scores.Sum{ID: id + 1, Value: float64(rng.IntN(9)-4) / 2})
					}
				}
				return list
			}
			d := scores.Delta{ProfileID: alone + i, Genres: sums("genre_score"), Topics: sums("topic_score"), Typed: rng.IntN(3) > 0}
			if d.Typed {
				for letter := range d.MBTI {
					d.MBTI[letter] = float64(rng.IntN(9) - 4)
				}
			}
			require.NoError(t, write(t, pool, true, d))
			d.ProfileID = together + i
			many = append(many, d)
		}
		require.NoError(t, write(t, pool, true, many...))
	}
	for name, query := range map[string]string{
		"genres":  `SELECT child_profile_id - $1, genre_id, score FROM genre_score`,
		"topics":  `SELECT child_profile_id - $1, topic_id, score FROM topic_score`,
		"letters": `SELECT child_profile_id - $1, i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score FROM cumulative_mbti_score`,
		"history": `SELECT child_profile_id - $1, mbti_id, i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score,
			array(SELECT genre_id FROM favorite_genre f WHERE f.child_profile_id = h.child_profile_id AND f.history_id = h.id ORDER BY 1),
			array(SELECT topic_id FROM favorite_topic f WHERE f.child_profile_id = h.child_profile_id AND f.history_id = h.id ORDER BY 1)
			FROM child_personality_history h`,
	} {
		read := func(first int) []string {
			rows, err := pool.Query(t.Context(), `SELECT r::text FROM (`+query+` WHERE child_profile_id BETWEEN $1 AND $1 + 99) r ORDER BY 1`, first)
			require.NoError(t, err)
			list, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			return list
		}
		assert.NotEmpty(t, read(alone), name)
		assert.Equal(t, read(alone), read(together), name)
	}
}

// A score without a row refuses the transaction, of one profile and of several, and nothing
// of it stays.
func TestRowMissing(t *testing.T) {
	pool := connect(t)
	exec(t, pool, `INSERT INTO genre_score VALUES (1, 1, 5), (2, 1, 5)`)
	for _, d := range []scores.Delta{
		{ProfileID: 1, Genres: []scores.Sum{{ID: 1, Value: 2}, {ID: 2, Value: 2}}},
		{ProfileID: 1, Genres: []scores.Sum{{ID: 1, Value: 2}}, Topics: []scores.Sum{{ID: 1, Value: 2}}},
	} {
		for _, others := range [][]scores.Delta{nil, {{ProfileID: 2, Genres: []scores.Sum{{ID: 1, Value: 2}}}}} {
			var refused *pgconn.PgError
			require.ErrorAs(t, write(t, pool, false, append([]scores.Delta{d}, others...)...), &refused)
			assert.Equal(t, scores.RowMissing, refused.Code)
		}
	}
	var left int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE score <> 5) + (SELECT count(*) FROM child_personality_history) FROM genre_score`).Scan(&left))
	assert.Zero(t, left)
}

// The application may insert a score, or delete one, while we are about to add to it.
func TestCreateMeetsAnother(t *testing.T) {
	pool := connect(t)
	exec(t, pool, `INSERT INTO genre_score VALUES (1, 1, 5), (1, 2, 5)`)
	other, err := pool.Begin(t.Context())
	require.NoError(t, err)
	for _, sql := range []string{`DELETE FROM genre_score WHERE genre_id = 2`, `INSERT INTO genre_score VALUES (1, 3, 100)`} {
		_, err = other.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	var batch pgx.Batch
	deltas := []scores.Delta{{ProfileID: 1, Genres: []scores.Sum{{ID: 1, Value: 2}, {ID: 2, Value: 2}, {ID: 3, Value: 2}}}}
	history.Queue(&batch, deltas, types(t, pool), true)
	done := make(chan error)
	go func() { done <- pool.SendBatch(context.Background(), &batch).Close() }()
	require.Eventually(t, func() bool {
		var waiting int
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting))
		return waiting == 1
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, other.Commit(t.Context()))
	require.NoError(t, <-done)
	var scored string
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT string_agg(score::text, ' ' ORDER BY genre_id) FROM genre_score`).Scan(&scored))
	assert.Equal(t, "7 2 102", scored)
	var preferred []int64
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT array_agg(genre_id) FROM favorite_genre`).Scan(&preferred))
	assert.Equal(t, []int64{3}, preferred)
}

func write(t *testing.T, pool *pgxpool.Pool, create bool, deltas ...scores.Delta) error {
	t.Helper()
	var batch pgx.Batch
	history.Queue(&batch, deltas, types(t, pool), create)
	return pool.SendBatch(t.Context(), &batch).Close()
}
