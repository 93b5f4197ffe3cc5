package history_test

import (
	"math/rand/v2"
	"testing"

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
	for _, table := range []string{
		"genre_score", "topic_score", "cumulative_mbti_score", "favorite_genre f JOIN child_personality_history h ON h.id = f.history_id",
		"favorite_topic f JOIN child_personality_history h ON h.id = f.history_id", "child_personality_history",
	} {
		columns := map[string]string{
			"genre_score": "child_profile_id, genre_id, score", "topic_score": "child_profile_id, topic_id, score",
			"cumulative_mbti_score":     "child_profile_id, i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score",
			"child_personality_history": "child_profile_id, rank() OVER (PARTITION BY child_profile_id ORDER BY id), mbti_id, i_score, p_score",
		}[table]
		if columns == "" {
			columns = "f.child_profile_id, dense_rank() OVER (PARTITION BY h.child_profile_id ORDER BY h.id), " + table[9:14] + "_id"
		}
		var rows, different int
		require.NoError(t, pool.QueryRow(t.Context(), `WITH r AS (SELECT `+columns+` FROM `+table+`),
			a AS (SELECT * FROM r WHERE child_profile_id BETWEEN 100 AND 199),
			b AS (SELECT * FROM r WHERE child_profile_id BETWEEN 200 AND 299),
			moved AS (SELECT (row_to_json(a)::jsonb - 'child_profile_id')::text AS rest, child_profile_id + 100 AS p FROM a),
			others AS (SELECT (row_to_json(b)::jsonb - 'child_profile_id')::text, child_profile_id FROM b)
			SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM (TABLE moved EXCEPT ALL TABLE others) x) + (SELECT count(*) FROM (TABLE others EXCEPT ALL TABLE moved) y)`).
			Scan(&rows, &different))
		assert.Positive(t, rows, table)
		assert.Zero(t, different, table)
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

func write(t *testing.T, pool *pgxpool.Pool, create bool, deltas ...scores.Delta) error {
	t.Helper()
	var batch pgx.Batch
	if create {
		scores.Create(&batch, deltas)
	}
	history.Queue(&batch, deltas, types(t, pool))
	return pool.SendBatch(t.Context(), &batch).Close()
}
