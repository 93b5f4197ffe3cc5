-- A fingerprint of the scores, and of the latest history of each profile with its favorites.
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
SELECT md5(string_agg(line, chr(10) ORDER BY line COLLATE "C")) FROM rows
