-- What some profiles have: their scores, and their latest row of history with its favorites.
--
-- One statement sees each transaction on a profile wholly or not at all. The latest row is the one
-- with the greatest id, also if the application has deleted it since.
--
-- in:  $1 ids of profiles
-- out: a row for each that exists: its id; whether events are applied to it; the id and the kind of its
--      latest row of history; whether any of its rows is of the kind FEEDBACK; the type and the eight
--      scores of the latest row; the eight scores as they are, and as the columns of the history hold them
--      ({as_held}, which scores.go makes); the genres with a score of nothing or more, their scores, and the
--      favorite genres of the latest row; the same of topics. A score that is NULL counts as nothing, and
--      not for favorites
SELECT p.id,
    EXISTS (SELECT FROM aggregator.mark m WHERE m.child_profile_id = p.id AND m.applied > 0),
    h.id, h.history_created_type::text,
    EXISTS (SELECT FROM child_personality_history f WHERE f.child_profile_id = p.id AND f.history_created_type = 'FEEDBACK'),
    (SELECT upper(btrim(m.mbti::text)) FROM mbti m WHERE m.id = h.mbti_id LIMIT 1),
    ARRAY[h.i_score, h.e_score, h.s_score, h.n_score, h.t_score, h.f_score, h.j_score, h.p_score]::float8[],
    coalesce(now.scores, array_fill(0::float8, ARRAY[8])), coalesce(now.as_held, array_fill(0::float8, ARRAY[8])),
    ARRAY(SELECT s.genre_id FROM genre_score s
        WHERE s.child_profile_id = p.id AND s.score >= 0 AND s.score < 'Infinity'::float8 ORDER BY s.genre_id),
    ARRAY(SELECT s.score::float8 FROM genre_score s
        WHERE s.child_profile_id = p.id AND s.score >= 0 AND s.score < 'Infinity'::float8 ORDER BY s.genre_id),
    ARRAY(SELECT f.genre_id FROM favorite_genre f WHERE f.child_profile_id = p.id AND f.history_id = h.id ORDER BY f.genre_id),
    ARRAY(SELECT s.topic_id FROM topic_score s
        WHERE s.child_profile_id = p.id AND s.score >= 0 AND s.score < 'Infinity'::float8 ORDER BY s.topic_id),
    ARRAY(SELECT s.score::float8 FROM topic_score s
        WHERE s.child_profile_id = p.id AND s.score >= 0 AND s.score < 'Infinity'::float8 ORDER BY s.topic_id),
    ARRAY(SELECT f.topic_id FROM favorite_topic f WHERE f.child_profile_id = p.id AND f.history_id = h.id ORDER BY f.topic_id)
FROM child_profile p
LEFT JOIN LATERAL (
    SELECT ARRAY[c.i_score, c.e_score, c.s_score, c.n_score, c.t_score, c.f_score, c.j_score, c.p_score]::float8[] AS scores,
        ARRAY[{as_held}] AS as_held
    FROM cumulative_mbti_score c WHERE c.child_profile_id = p.id
) now ON true
LEFT JOIN LATERAL (
    SELECT * FROM child_personality_history l WHERE l.child_profile_id = p.id ORDER BY l.id DESC LIMIT 1
) h ON true
WHERE p.id = ANY ($1::bigint[])
ORDER BY p.id
