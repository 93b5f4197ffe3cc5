package history

import (
	"github.com/jackc/pgx/v5"
)

// ProfileGone is the SQLSTATE with which a snapshot fails its transaction when one of
// the profiles does not exist: it was deleted after we had looked for it.
const ProfileGone = "LG002"

// Queue puts the statement that writes a snapshot of each profile onto the batch of one
// transaction. The profiles must be different, in rising order of their ids. It sends
// nothing; errors come from whoever sends the batch, ProfileGone among them.
func Queue(batch *pgx.Batch, profileIDs []int64) {
	batch.Queue(snapshotSQL, profileIDs)
}

// The rules are those of the service: of each pair the first letter wins a tie, and
// preferred is what scores above nothing and at least the mean of what scores above
// nothing. The mean of equal scores may come out greater than each of them, in floating
// point; hence the least of it and the greatest score.
//
// The time is that of the statement: a transaction that began earlier may have waited for
// another on the same profile, and the latest row must be the one that says what stands.
//
// in: $1 profile ids. Reads the score tables as the transaction has left them.
const snapshotSQL = `WITH header AS (
    INSERT INTO child_personality_history (child_profile_id, created_at, history_created_type, is_deleted, mbti_id,
        i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score)
    SELECT p.id, clock_timestamp(), 'FEEDBACK', false, (SELECT id FROM mbti WHERE mbti =
            CASE WHEN m.i >= m.e THEN 'I' ELSE 'E' END || CASE WHEN m.n >= m.s THEN 'N' ELSE 'S' END ||
            CASE WHEN m.t >= m.f THEN 'T' ELSE 'F' END || CASE WHEN m.j >= m.p THEN 'J' ELSE 'P' END),
        m.i, m.e, m.s, m.n, m.t, m.f, m.j, m.p
    FROM child_profile p
    LEFT JOIN cumulative_mbti_score c ON c.child_profile_id = p.id
    CROSS JOIN LATERAL (SELECT coalesce(c.i_score, 0), coalesce(c.e_score, 0), coalesce(c.s_score, 0), coalesce(c.n_score, 0),
        coalesce(c.t_score, 0), coalesce(c.f_score, 0), coalesce(c.j_score, 0), coalesce(c.p_score, 0)) m (i, e, s, n, t, f, j, p)
    WHERE p.id = ANY($1::bigint[])
    RETURNING child_profile_id, id
), genres AS (
    INSERT INTO favorite_genre (child_profile_id, history_id, genre_id)
    SELECT h.child_profile_id, h.id, g.genre_id
    FROM header h JOIN (
        SELECT child_profile_id, genre_id, score, least(avg(score) OVER profile, max(score) OVER profile) AS enough
        FROM genre_score WHERE child_profile_id = ANY($1) AND score > 0 WINDOW profile AS (PARTITION BY child_profile_id)
    ) g ON g.child_profile_id = h.child_profile_id AND g.score >= g.enough
), topics AS (
    INSERT INTO favorite_topic (child_profile_id, history_id, topic_id)
    SELECT h.child_profile_id, h.id, t.topic_id
    FROM header h JOIN (
        SELECT child_profile_id, topic_id, score, least(avg(score) OVER profile, max(score) OVER profile) AS enough
        FROM topic_score WHERE child_profile_id = ANY($1) AND score > 0 WINDOW profile AS (PARTITION BY child_profile_id)
    ) t ON t.child_profile_id = h.child_profile_id AND t.score >= t.enough
)
SELECT aggregator.require(count(*) = cardinality($1), '` + ProfileGone + `', 'a child profile is gone') FROM header`
