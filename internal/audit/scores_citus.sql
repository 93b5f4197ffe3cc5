-- scores.sql for Citus, which takes no lateral join and no sub-select of each row: all tables are grouped by profile, and
-- joined on the worker that has them. In and out as there.
SELECT p.id, coalesce(marks.applied, false), h.id, h.kind, coalesce(f.feedback, false), h.mbti, h.scores,
    coalesce(now.scores, array_fill(0::float8, ARRAY[8])), coalesce(now.as_held, array_fill(0::float8, ARRAY[8])),
    coalesce(g.ids, '{}'), coalesce(g.scores, '{}'), coalesce(fg.ids, '{}'),
    coalesce(t.ids, '{}'), coalesce(t.scores, '{}'), coalesce(ft.ids, '{}')
FROM child_profile p
LEFT JOIN (
    SELECT child_profile_id, bool_or(applied > 0) AS applied FROM aggregator.mark
    WHERE child_profile_id = ANY ($1::bigint[]) GROUP BY 1
) marks ON marks.child_profile_id = p.id
LEFT JOIN (
    SELECT child_profile_id, bool_or(history_created_type::text = 'FEEDBACK') AS feedback FROM child_personality_history
    WHERE child_profile_id = ANY ($1::bigint[]) GROUP BY 1
) f ON f.child_profile_id = p.id
LEFT JOIN (
    SELECT DISTINCT ON (l.child_profile_id) l.child_profile_id, l.id, l.history_created_type::text AS kind,
        upper(btrim(m.mbti::text)) AS mbti,
        ARRAY[l.i_score, l.e_score, l.s_score, l.n_score, l.t_score, l.f_score, l.j_score, l.p_score]::float8[] AS scores
    FROM child_personality_history l LEFT JOIN mbti m ON m.id = l.mbti_id
    WHERE l.child_profile_id = ANY ($1::bigint[]) ORDER BY l.child_profile_id, l.id DESC
) h ON h.child_profile_id = p.id
LEFT JOIN (
    SELECT c.child_profile_id,
        ARRAY[c.i_score, c.e_score, c.s_score, c.n_score, c.t_score, c.f_score, c.j_score, c.p_score]::float8[] AS scores,
        ARRAY[{as_held}] AS as_held
    FROM cumulative_mbti_score c WHERE c.child_profile_id = ANY ($1::bigint[])
) now ON now.child_profile_id = p.id
LEFT JOIN (
    SELECT child_profile_id, array_agg(genre_id ORDER BY genre_id) AS ids,
        array_agg(score::float8 ORDER BY genre_id) AS scores
    FROM genre_score WHERE child_profile_id = ANY ($1::bigint[]) AND score >= 0 AND score < 'Infinity'::float8 GROUP BY 1
) g ON g.child_profile_id = p.id
LEFT JOIN (
    SELECT child_profile_id, history_id, array_agg(genre_id ORDER BY genre_id) AS ids FROM favorite_genre
    WHERE child_profile_id = ANY ($1::bigint[]) GROUP BY 1, 2
) fg ON fg.child_profile_id = p.id AND fg.history_id = h.id
LEFT JOIN (
    SELECT child_profile_id, array_agg(topic_id ORDER BY topic_id) AS ids,
        array_agg(score::float8 ORDER BY topic_id) AS scores
    FROM topic_score WHERE child_profile_id = ANY ($1::bigint[]) AND score >= 0 AND score < 'Infinity'::float8 GROUP BY 1
) t ON t.child_profile_id = p.id
LEFT JOIN (
    SELECT child_profile_id, history_id, array_agg(topic_id ORDER BY topic_id) AS ids FROM favorite_topic
    WHERE child_profile_id = ANY ($1::bigint[]) GROUP BY 1, 2
) ft ON ft.child_profile_id = p.id AND ft.history_id = h.id
WHERE p.id = ANY ($1::bigint[])
ORDER BY p.id
