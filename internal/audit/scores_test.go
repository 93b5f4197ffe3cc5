package audit_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"aggregator/internal/audit"
	"aggregator/internal/postgres"
	"aggregator/internal/scores"
	"aggregator/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// scored is a database in which three drains have written rows of history of some profiles, and the pool of
// the daemon's role on it.
func scored(t *testing.T, profiles int) (admin, daemon *pgxpool.Pool) {
	t.Helper()
	u := testenv.Database(t)
	open := func(url string) *pgxpool.Pool {
		pool, err := postgres.Open(t.Context(), postgres.Options{URL: url, MaxConns: 2})
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		return pool
	}
	admin, daemon = open(u), open(testenv.As(t, u, "aggregator_daemon"))
	exec(t, admin, `INSERT INTO child_profile (id, name) SELECT p, 'child' FROM generate_series(1, $1::int) p`, profiles)
	exec(t, admin, `INSERT INTO aggregator.mark SELECT p, 's', 1, 1, 3 FROM generate_series(1, $1::int) p`, profiles)
	exec(t, admin, `INSERT INTO genre_score SELECT p, g, 2 * g FROM generate_series(1, $1::int) p, `+
		`generate_series(0, 3) g`, profiles)
	exec(t, admin, `INSERT INTO topic_score SELECT p, x, 0.1 * x - 0.1 FROM generate_series(1, $1::int) p, `+
		`generate_series(1, 5) x`, profiles)
	exec(t, admin, `INSERT INTO cumulative_mbti_score SELECT p, 2, 4, 6, 6, 1, 0.5, -2, -1 FROM generate_series(1, `+
		`$1::int) p`, profiles)
	exec(t, admin, `INSERT INTO child_personality_history (id, child_profile_id, mbti_id, i_score) SELECT n, p, NULL, n
		FROM generate_series(1, $1::int) p, generate_series(1, 2) n`, profiles)
	exec(
		t, admin,
		`INSERT INTO child_personality_history (id, child_profile_id, mbti_id, i_score, e_score, s_score, n_score, t_score,
			f_score, j_score, p_score)
		SELECT 3, p, (SELECT id FROM mbti WHERE mbti = 'ENTP'), 2, 4, 6, 6, 1, 0.5, -2, -1
			FROM generate_series(1, $1::int) p`, profiles)
	exec(t, admin, `INSERT INTO favorite_genre SELECT p, 3, g FROM generate_series(1, $1::int) p, generate_series(2, 3) g`,
		profiles)
	exec(t, admin, `INSERT INTO favorite_topic SELECT p, 3, x FROM generate_series(1, $1::int) p, generate_series(4, 5) x`,
		profiles)
	return admin, daemon
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	_, err := pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func TestScores(t *testing.T) {
	for name, tc := range map[string]struct {
		change             string
		compared, unlike   int64
		what               []string // of profile 2
		withoutHistoryLeft bool
	}{
		"equal": {`SELECT 1`, 3, 0, nil, false},
		"a score": {
			`UPDATE cumulative_mbti_score SET j_score = j_score + 0.5 WHERE child_profile_id = 2`, 3, 1,
			[]string{"the score of J is -1.5, and -2 in the history"},
			false,
		},
		"a score and type": {
			`UPDATE cumulative_mbti_score SET i_score = 4 WHERE child_profile_id = 2`, 3, 1,
			[]string{"the score of I is 4, and 2 in the history", "the type is INTP by the scores, and ENTP in the history"},
			false,
		},
		"a row of scores": {`DELETE FROM cumulative_mbti_score WHERE child_profile_id <> 2`, 3, 2, nil, false},
		"a genre turned": {
			`UPDATE genre_score SET score = 100 WHERE child_profile_id = 2 AND genre_id = 0`, 3, 1,
			[]string{
				"genre 0 is preferred by the scores, and no favorite in the history",
				"genre 2 is a favorite in the history, and not preferred by the scores",
				"genre 3 is a favorite in the history, and not preferred by the scores",
			},
			false,
		},
		"a topic is gone": {
			`DELETE FROM topic_score WHERE child_profile_id = 2 AND topic_id = 5`, 3, 1,
			[]string{"topic 5 is a favorite in the history, and not preferred by the scores"},
			false,
		},
		"a favorite": {
			`DELETE FROM favorite_topic WHERE child_profile_id = 2 AND topic_id = 4`, 3, 1,
			[]string{"topic 4 is preferred by the scores, and no favorite in the history"},
			false,
		},
		"the type": {
			`UPDATE child_personality_history SET mbti_id = NULL WHERE child_profile_id = 2 AND id = 3`, 3, 1,
			[]string{"the type is ENTP by the scores, and none in the history"},
			false,
		},
		"no such type": {
			`UPDATE child_personality_history SET mbti_id = NULL; DELETE FROM mbti WHERE mbti = 'ENTP'`, 3, 0,
			nil, false,
		},
		"the latest row": {
			`DELETE FROM child_personality_history WHERE child_profile_id = 2 AND id = 3; DELETE FROM ` +
				`favorite_genre WHERE child_profile_id = 2; DELETE FROM favorite_topic WHERE child_profile_id = 2`, 3, 1,
			[]string{
				"genre 2 is preferred by the scores, and no favorite in the history",
				"genre 3 is preferred by the scores, and no favorite in the history", "the score of E is 4, and 0 in the history",
				"the score of F is 0.5, and 0 in the history", "the score of J is -2, and 0 in the history",
				"the score of N is 6, and 0 in the history", "the score of P is -1, and 0 in the history",
				"the score of S is 6, and 0 in the history", "the score of T is 1, and 0 in the history",
				"the type is ENTP by the scores, and none in the history",
				"topic 4 is preferred by the scores, and no favorite in the history",
				"topic 5 is preferred by the scores, and no favorite in the history",
			},
			false,
		},
		"all rows": {
			`DELETE FROM child_personality_history WHERE child_profile_id = 2`, 3, 1,
			[]string{"events are applied to it, and it has no row of history of the kind FEEDBACK"},
			true,
		},
		"all but a diagnosis": {
			`DELETE FROM child_personality_history WHERE child_profile_id = 2 AND id > 1; UPDATE child_personality_history ` +
				`SET history_created_type = 'DIAGNOSIS' WHERE child_profile_id = 2`,
			3, 1,
			[]string{"events are applied to it, and it has no row of history of the kind FEEDBACK"},
			false,
		},
		"deleted softly": {`UPDATE child_personality_history SET is_deleted = true, deleted_at = now()`, 3, 0, nil, false},
		"a new diagnosis": {`INSERT INTO child_personality_history (id, child_profile_id, history_created_type) VALUES (4, ` +
			`2, 'DIAGNOSIS')`, 2, 0, nil, false},
		"never drained": {`DELETE FROM child_personality_history WHERE child_profile_id = 2; UPDATE aggregator.mark SET ` +
			`applied = 0 WHERE child_profile_id = 2`, 2, 0, nil, false},
		"an older row": {`UPDATE child_personality_history SET i_score = 100 WHERE id < 3`, 3, 0, nil, false},
		"NULL is nothing": {
			`ALTER TABLE cumulative_mbti_score ALTER COLUMN i_score DROP NOT NULL; UPDATE cumulative_mbti_score SET i_score = ` +
				`NULL; UPDATE child_personality_history SET i_score = 0`,
			3, 0, nil, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			admin, daemon := scored(t, 3)
			exec(t, admin, tc.change)
			r, err := audit.Scores(t.Context(), daemon, scores.MeanOfPositive, nil)
			require.NoError(t, err)
			require.EqualValues(t, 3, r.Profiles)
			require.Equal(t, tc.compared, r.Compared)
			require.Equal(t, tc.unlike, r.Different, r.First)
			require.Zero(t, r.Unsettled)
			require.Len(t, r.First, int(tc.unlike))
			if tc.what != nil {
				require.EqualValues(t, 2, r.First[0].ProfileID)
				require.Equal(t, tc.what, r.First[0].What)
				require.Equal(t, tc.withoutHistoryLeft, r.First[0].HistoryID == nil)
			}
		})
	}
}

func TestScoresOfManyProfiles(t *testing.T) {
	t.Parallel()
	admin, daemon := scored(t, 1203)
	exec(t, admin, `UPDATE cumulative_mbti_score SET s_score = 7 WHERE child_profile_id % 80 = 3`)
	var done []int64
	r, err := audit.Scores(t.Context(), daemon, scores.MeanOfPositive, func(n int64) { done = append(done, n) })
	require.NoError(t, err)
	require.Equal(t, []int64{500, 1000, 1203}, done)
	require.EqualValues(t, 1203, r.Compared)
	require.EqualValues(t, 16, r.Different)
	require.Len(t, r.First, 10)
	require.EqualValues(t, 3, r.First[0].ProfileID)
	require.EqualValues(t, 723, r.First[9].ProfileID)
}

// TestScoresInMotion compares while the application writes scores and history in two transactions: between
// the two, all profiles differ.
func TestScoresInMotion(t *testing.T) {
	t.Parallel()
	admin, daemon := scored(t, 2)
	ctx, stop := context.WithCancel(t.Context())
	written := make(chan error, 1)
	exec(t, admin, `UPDATE cumulative_mbti_score SET t_score = t_score + 1 WHERE child_profile_id = 2`)
	go func() {
		var err error
		for ctx.Err() == nil && err == nil {
			if _, err = admin.Exec(t.Context(), `UPDATE cumulative_mbti_score SET t_score = t_score + 1`); err == nil {
				_, err = admin.Exec(t.Context(),
					`UPDATE child_personality_history SET t_score = t_score + 1 WHERE id = 3 AND child_profile_id = 1`)
			}
		}
		written <- err
	}()
	r, err := audit.Scores(t.Context(), daemon, scores.MeanOfPositive, nil)
	stop()
	require.NoError(t, err)
	require.NoError(t, <-written)
	require.Zero(t, r.Different, r.First)
	require.NotZero(t, r.Unsettled) // of profile 2 the history never follows
	require.EqualValues(t, 2, r.Unsettled+r.Compared)

	r, err = audit.Scores(t.Context(), daemon, scores.MeanOfPositive, nil)
	require.NoError(t, err)
	require.EqualValues(t, 1, r.Different, "profile 2, once it rests")
}

func TestScoresStopped(t *testing.T) {
	t.Parallel()
	_, daemon := scored(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := audit.Scores(ctx, daemon, scores.MeanOfPositive, nil)
	require.ErrorIs(t, err, context.Canceled)
}
