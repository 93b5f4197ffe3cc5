-- What the aggregator does to scores, history and favorites, set by set, in one session and one transaction. The
-- table event (profile, book, weight) is filled between the first part and the second.
--
-- Sums are put into tables of their own, whose sizes the planner then knows. What it cannot know is how many scores are
-- above 0 by now: without nested loops it does not matter.
SET LOCAL work_mem = '256MB';
SET LOCAL enable_nestloop = off;
CREATE TEMPORARY TABLE event (profile bigint, book bigint, weight float8) ON COMMIT DROP;
-- filled here
ANALYZE event;

CREATE TEMPORARY TABLE genre_sum ON COMMIT DROP AS
SELECT e.profile, b.genre_id, sum(e.weight) AS sum FROM event e JOIN book b ON b.id = e.book GROUP BY 1, 2;
ANALYZE genre_sum;
UPDATE genre_score s SET score = s.score + d.sum FROM genre_sum d
WHERE s.child_profile_id = d.profile AND s.genre_id = d.genre_id;
INSERT INTO genre_score (child_profile_id, genre_id, score)
SELECT * FROM genre_sum d
WHERE NOT EXISTS (SELECT FROM genre_score s WHERE s.child_profile_id = d.profile AND s.genre_id = d.genre_id);

CREATE TEMPORARY TABLE topic_sum ON COMMIT DROP AS
SELECT e.profile, b.topic_id, sum(e.weight) AS sum FROM event e JOIN book_topic b ON b.book_id = e.book GROUP BY 1, 2;
ANALYZE topic_sum;
UPDATE topic_score s SET score = s.score + d.sum FROM topic_sum d
WHERE s.child_profile_id = d.profile AND s.topic_id = d.topic_id;
INSERT INTO topic_score (child_profile_id, topic_id, score)
SELECT * FROM topic_sum d
WHERE NOT EXISTS (SELECT FROM topic_score s WHERE s.child_profile_id = d.profile AND s.topic_id = d.topic_id);

CREATE TEMPORARY TABLE letter_sum ON COMMIT DROP AS
SELECT e.profile,
    coalesce(sum(e.weight) FILTER (WHERE l.i), 0) AS i, coalesce(sum(e.weight) FILTER (WHERE NOT l.i), 0) AS e,
    coalesce(sum(e.weight) FILTER (WHERE NOT l.n), 0) AS s, coalesce(sum(e.weight) FILTER (WHERE l.n), 0) AS n,
    coalesce(sum(e.weight) FILTER (WHERE l.t), 0) AS t, coalesce(sum(e.weight) FILTER (WHERE NOT l.t), 0) AS f,
    coalesce(sum(e.weight) FILTER (WHERE l.j), 0) AS j, coalesce(sum(e.weight) FILTER (WHERE NOT l.j), 0) AS p
FROM event e
JOIN book_mbti b ON b.book_id = e.book
JOIN (SELECT id, mbti LIKE 'I___' AS i, mbti LIKE '_N__' AS n, mbti LIKE '__T_' AS t, mbti LIKE '___J' AS j FROM mbti OFFSET 0) l ON l.id = b.mbti_id
GROUP BY 1;
ANALYZE letter_sum;
UPDATE cumulative_mbti_score c SET
    i_score = c.i_score + d.i, e_score = c.e_score + d.e, s_score = c.s_score + d.s, n_score = c.n_score + d.n,
    t_score = c.t_score + d.t, f_score = c.f_score + d.f, j_score = c.j_score + d.j, p_score = c.p_score + d.p
FROM letter_sum d WHERE c.child_profile_id = d.profile;
INSERT INTO cumulative_mbti_score (child_profile_id, i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score)
SELECT * FROM letter_sum d WHERE NOT EXISTS (SELECT FROM cumulative_mbti_score c WHERE c.child_profile_id = d.profile);

WITH header AS (
    INSERT INTO child_personality_history (child_profile_id, created_at, history_created_type, is_deleted, mbti_id,
        i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score)
    SELECT p.profile, now(), 'FEEDBACK', false, mbti.id, m.i, m.e, m.s, m.n, m.t, m.f, m.j, m.p
    FROM (SELECT DISTINCT profile FROM event) p
    LEFT JOIN cumulative_mbti_score c ON c.child_profile_id = p.profile
    CROSS JOIN LATERAL (SELECT coalesce(c.i_score, 0), coalesce(c.e_score, 0), coalesce(c.s_score, 0), coalesce(c.n_score, 0),
        coalesce(c.t_score, 0), coalesce(c.f_score, 0), coalesce(c.j_score, 0), coalesce(c.p_score, 0)) m (i, e, s, n, t, f, j, p)
    JOIN mbti ON mbti.mbti =
        CASE WHEN m.i >= m.e THEN 'I' ELSE 'E' END || CASE WHEN m.n >= m.s THEN 'N' ELSE 'S' END ||
        CASE WHEN m.t >= m.f THEN 'T' ELSE 'F' END || CASE WHEN m.j >= m.p THEN 'J' ELSE 'P' END
    RETURNING child_profile_id, id
), genres AS (
    INSERT INTO favorite_genre (child_profile_id, history_id, genre_id)
    SELECT h.child_profile_id, h.id, g.genre_id
    FROM header h JOIN (
        SELECT child_profile_id, genre_id, score, least(avg(score) OVER profile, max(score) OVER profile) AS enough
        FROM genre_score WHERE score > 0 WINDOW profile AS (PARTITION BY child_profile_id)
    ) g ON g.child_profile_id = h.child_profile_id AND g.score >= g.enough
)
INSERT INTO favorite_topic (child_profile_id, history_id, topic_id)
SELECT h.child_profile_id, h.id, t.topic_id
FROM header h JOIN (
    SELECT child_profile_id, topic_id, score, least(avg(score) OVER profile, max(score) OVER profile) AS enough
    FROM topic_score WHERE score > 0 WINDOW profile AS (PARTITION BY child_profile_id)
) t ON t.child_profile_id = h.child_profile_id AND t.score >= t.enough;
