package audit_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/internal/audit"
	"aggregator/internal/scores"
)

// Each rule finds the favorites that it makes right, and misses those of the other one.
func TestScoresByBothRules(t *testing.T) {
	t.Parallel()
	admin, daemon := scored(t, 5)
	exec(t, admin, `DELETE FROM genre_score; DELETE FROM topic_score; DELETE FROM favorite_genre; DELETE FROM `+
		`favorite_topic`)
	exec(t, admin, `ALTER TABLE genre_score ALTER score DROP NOT NULL`)
	exec(t, admin, `INSERT INTO genre_score VALUES
		(1, 1, 4), (1, 2, 6), (1, 3, 0), (1, 4, -8), (1, 5, NULL), -- means 5 and 3.33
		(2, 1, 0.15), (2, 2, 0.15), (2, 3, 0.15), (2, 4, 0.15), (2, 5, 0.15),
		(3, 1, 1), (3, 2, 2), (3, 3, 3), -- the mean is a score
		(4, 1, 0), (4, 2, 0),
		(5, 1, 2), (5, 2, 'Infinity'), (5, 3, 4), (5, 4, 'NaN')`)
	favorites := map[scores.Preference]string{
		scores.MeanOfPositive: `(1, 3, 2), (2, 3, 1), (2, 3, 2), (2, 3, 3), (2, 3, 4), (2, 3, 5), (3, 3, 2), (3, ` +
			`3, 3), (5, 3, 3)`,
		scores.AboveMeanOfNonnegative: `(1, 3, 1), (1, 3, 2), (3, 3, 3), (5, 3, 3)`,
	}
	for of, list := range favorites {
		exec(t, admin, `DELETE FROM favorite_genre`)
		exec(t, admin, `INSERT INTO favorite_genre VALUES `+list)
		for _, rule := range scores.Preferences {
			r, err := audit.Scores(t.Context(), daemon, rule, nil)
			require.NoError(t, err)
			require.EqualValues(t, 5, r.Compared)
			if of == rule {
				require.Zero(t, r.Different, "%s: %v", of, r.First)
				continue
			}
			require.EqualValues(t, 3, r.Different, "favorites by %s, compared by %s: %v", of, rule, r.First) // 1, 2 and 3
		}
	}
}

// A score that is no number is a difference, not one that changes each time it is read.
func TestScoresThatAreNotFinite(t *testing.T) {
	t.Parallel()
	admin, daemon := scored(t, 3)
	exec(t, admin, `UPDATE cumulative_mbti_score SET i_score = 'NaN' WHERE child_profile_id = 2`)
	exec(t, admin, `UPDATE cumulative_mbti_score SET i_score = '-Infinity' WHERE child_profile_id = 3`)
	r, err := audit.Scores(t.Context(), daemon, scores.MeanOfPositive, nil)
	require.NoError(t, err)
	require.EqualValues(t, 2, r.Different)
	require.Zero(t, r.Unsettled)
	for _, d := range r.First {
		require.Contains(t, d.What, "the score of I is not a finite number, and 2 in the history")
	}
}

// Types are read right that are padded or in lower case.
func TestScoresWithTypesInOtherForms(t *testing.T) {
	t.Parallel()
	admin, daemon := scored(t, 3)
	exec(t, admin, `ALTER TABLE mbti ALTER mbti TYPE char(6)`)
	exec(t, admin, `UPDATE mbti SET mbti = ' ' || lower(mbti)`)
	r, err := audit.Scores(t.Context(), daemon, scores.MeanOfPositive, nil)
	require.NoError(t, err)
	require.Zero(t, r.Different, r.First)
	require.EqualValues(t, 3, r.Compared)
}
