package baseline

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// State is a fingerprint of what a database holds in the end: the scores, and the latest
// history of each profile with its favourites. How many chunks led to it leaves no trace.
func State(ctx context.Context, url string) (fingerprint string, err error) {
	db, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer db.Close(ctx)
	err = db.QueryRow(ctx, stateSQL).Scan(&fingerprint)
	return fingerprint, err
}

const stateSQL = `
WITH latest AS (
    SELECT DISTINCT ON (child_profile_id) * FROM child_personality_history WHERE history_created_type = 'FEEDBACK'
    ORDER BY child_profile_id, created_at DESC, id DESC
), rows (line) AS (
    SELECT format('genre %s %s %s', child_profile_id, genre_id, score) FROM genre_score
    UNION ALL SELECT format('topic %s %s %s', child_profile_id, topic_id, score) FROM topic_score
    UNION ALL SELECT format('letters %s', c) FROM cumulative_mbti_score c
    UNION ALL SELECT format('history %s %s %s', child_profile_id, mbti_id,
        ROW (i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score)) FROM latest
    UNION ALL SELECT format('genre %s %s', f.child_profile_id, f.genre_id) FROM favorite_genre f
        JOIN latest ON latest.child_profile_id = f.child_profile_id AND latest.id = f.history_id
    UNION ALL SELECT format('topic %s %s', f.child_profile_id, f.topic_id) FROM favorite_topic f
        JOIN latest ON latest.child_profile_id = f.child_profile_id AND latest.id = f.history_id
)
SELECT md5(string_agg(line, chr(10) ORDER BY line COLLATE "C")) FROM rows`
