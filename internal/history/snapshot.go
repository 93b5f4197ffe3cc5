package history

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/scores"
)

// ProfileGone is the SQLSTATE with which a snapshot fails its transaction when one of
// the profiles does not exist: it was deleted after we had looked for it.
const ProfileGone = "LG002"

// Queue puts the statements that add the deltas to the scores, and write a snapshot of
// each profile as it stands then, onto the batch of one transaction. The deltas must be
// of different profiles, in rising order of their ids. The transaction must have locked
// the profiles' marks before (ledger.Advance, ledger.Revive). It sends nothing; errors
// come from whoever sends the batch, ProfileGone among them, and scores.RowMissing unless
// create says that missing scores are made.
func Queue(batch *pgx.Batch, deltas []scores.Delta, types Types, create bool) {
	if len(deltas) == 1 && !deltas[0].Wide() {
		d := deltas[0]
		scores.QueueLetters(batch, deltas)
		genres, genreSums := columns(d.Genres)
		topics, topicSums := columns(d.Topics)
		snapshot := addAndSnapshot
		if create {
			snapshot = createAndSnapshot
		}
		batch.Queue(snapshot, d.ProfileID, types[:], genres, genreSums, topics, topicSums)
		return
	}
	scores.Queue(batch, deltas, create)
	profiles := make([]int64, len(deltas))
	for i, d := range deltas {
		profiles[i] = d.ProfileID
	}
	batch.Queue(snapshots, profiles, types[:])
}

// Types are the ids of the sixteen types in the table mbti, in the order INTJ, INTP, INFJ ...
// ESFP; nil if one is not there. They are handed to the statements, so that none looks one up.
type Types [16]*int64

// Missing names the types that have no id.
func (t Types) Missing() (names []string) {
	for i, id := range t {
		if id != nil {
			continue
		}
		name := make([]byte, 4)
		for pair, letters := range []string{"IE", "NS", "TF", "JP"} {
			name[pair] = letters[i>>(3-pair)&1]
		}
		names = append(names, string(name))
	}
	return names
}

// ReadTypes returns the ids. It reads only.
func ReadTypes(ctx context.Context, pool *pgxpool.Pool) (types Types, err error) {
	rows, _ := pool.Query(ctx, typesSQL) // its error is also that of the rows
	var id int64
	var place int
	_, err = pgx.ForEachRow(rows, []any{&id, &place}, func() error {
		types[place] = new(id)
		return nil
	})
	if err != nil {
		return types, fmt.Errorf("reading the MBTI types: %w", err)
	}
	return types, nil
}

const typesSQL = `
SELECT m.id, 8 * e + 4 * s + 2 * f + p
FROM mbti m, generate_series(0, 1) e, generate_series(0, 1) s, generate_series(0, 1) f, generate_series(0, 1) p
WHERE m.mbti = substr('IE', e + 1, 1) || substr('NS', s + 1, 1) || substr('TF', f + 1, 1) || substr('JP', p + 1, 1)`

func columns(sums []scores.Sum) (ids []int64, values []float64) {
	ids, values = make([]int64, len(sums)), make([]float64, len(sums))
	for i, s := range sums {
		ids[i], values[i] = s.ID, s.Value
	}
	return ids, values
}

// The rules are those of the service: of each pair the first letter wins a tie, and
// preferred is what scores above nothing and at least the mean of what scores above
// nothing. The mean of equal scores may come out greater than each of them, in floating
// point; hence the least of it and the greatest score.
//
// The time is that of the statement: a transaction that began earlier may have waited for
// another on the same profile, and the latest row must be the one that says what stands.
const (
	header = `header AS (
    INSERT INTO child_personality_history (child_profile_id, created_at, history_created_type, is_deleted, mbti_id,
        i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score)
    SELECT p.id, clock_timestamp(), 'FEEDBACK', false, 
        ($2::bigint[])[1 + 8 * (m.i < m.e)::int + 4 * (m.n < m.s)::int + 2 * (m.t < m.f)::int + (m.j < m.p)::int],
        m.i, m.e, m.s, m.n, m.t, m.f, m.j, m.p
    FROM child_profile p
    LEFT JOIN cumulative_mbti_score c ON c.child_profile_id = p.id
    CROSS JOIN LATERAL (SELECT coalesce(c.i_score, 0), coalesce(c.e_score, 0), coalesce(c.s_score, 0), coalesce(c.n_score, 0),
        coalesce(c.t_score, 0), coalesce(c.f_score, 0), coalesce(c.j_score, 0), coalesce(c.p_score, 0)) m (i, e, s, n, t, f, j, p)
    WHERE p.id = {profiles}
    RETURNING child_profile_id, id
)`

	enough = `least(avg(score) OVER (), max(score) OVER ())`
)

// snapshots reads the score tables as the statements before it have left them.
//
// in: $1 profile ids; $2 Types.
var snapshots = `WITH ` + strings.ReplaceAll(header, "{profiles}", "ANY ($1::bigint[])") +
	`, genres AS (` + preferredOfEach("favorite_genre", "genre_score", "genre_id") +
	`), topics AS (` + preferredOfEach("favorite_topic", "topic_score", "topic_id") + `)
SELECT aggregator.require(false, '` + ProfileGone + `', 'a child profile is gone')
FROM header HAVING count(*) <> cardinality($1)`

func preferredOfEach(favorites, table, id string) string {
	return strings.NewReplacer("{favorites}", favorites, "{table}", table, "{id}", id, "{enough}", enough).Replace(`
    INSERT INTO {favorites} (child_profile_id, history_id, {id})
    SELECT h.child_profile_id, h.id, s.{id}
    FROM header h CROSS JOIN LATERAL (
        SELECT {id}, score, {enough} AS enough FROM {table} WHERE child_profile_id = h.child_profile_id AND score > 0
    ) s WHERE s.score >= s.enough
`)
}

// These do for one profile what scores.Queue and snapshots do for many, but for the
// letters, in one statement: it reads nothing twice. The scores that stand in the end are
// those that it has added to or created, and those that it has no business with.
//
// in: $1 profile id; $2 Types; $3, $4 genres and what to add; $5, $6 topics likewise.
var (
	addAndSnapshot    = snapshotOfOne(false)
	createAndSnapshot = snapshotOfOne(true)
)

func snapshotOfOne(create bool) string {
	written := `SELECT 0 FROM added_genre UNION ALL SELECT 0 FROM added_topic`
	if create {
		written += ` UNION ALL SELECT 0 FROM created_genre UNION ALL SELECT 0 FROM created_topic
    UNION ALL SELECT 0 FROM kept_genre UNION ALL SELECT 0 FROM kept_topic`
	}
	return `WITH ` + add("genre", "$3", "$4", create) + `, ` + add("topic", "$5", "$6", create) + `, ` +
		strings.ReplaceAll(header, "{profiles}", "$1") + `, ` + preferred("genre") + `, ` + preferred("topic") + `
SELECT aggregator.require(false, CASE WHEN sum(headers) = 1 THEN '` + scores.RowMissing + `' ELSE '` + ProfileGone + `' END,
    'the child profile, or a score, has no row')
FROM (SELECT 1 FROM header UNION ALL ` + written + `) written (headers)
HAVING count(*) <> 1 + cardinality($3) + cardinality($5)`
}

// All the sums of a profile are one row of two arrays: to look into them for each score
// that the profile has is cheaper than any join.
func add(kind, ids, sums string, create bool) string {
	sql := `added_{kind} AS (
    UPDATE {kind}_score s SET score = s.score + d.sums[array_position(d.ids, s.{kind}_id)]
    FROM (VALUES ({ids}::bigint[], {sums}::float8[])) d (ids, sums)
    WHERE s.child_profile_id = $1 AND s.{kind}_id = ANY (d.ids)
    RETURNING s.{kind}_id AS id, s.score
), `
	written := `SELECT id, score FROM added_{kind}`
	others := `{kind}_id <> ALL ({ids})`
	if create {
		// If the application inserts one of them meanwhile, this waits until it has, and adds to it.
		sql += `created_{kind} AS (
    INSERT INTO {kind}_score AS s (child_profile_id, {kind}_id, score)
    SELECT $1, id, sum FROM unnest({ids}::bigint[], {sums}::float8[]) d (id, sum) WHERE id <> ALL (ARRAY(SELECT id FROM added_{kind}))
    ON CONFLICT (child_profile_id, {kind}_id) DO UPDATE SET score = s.score + excluded.score
    RETURNING s.{kind}_id AS id, s.score
), `
		written += ` UNION ALL SELECT id, score FROM created_{kind}`
		// A row that a trigger keeps as it is, for nothing would change, does not come back.
		others = `{kind}_id <> ALL (ARRAY(SELECT id FROM (` + written + `) w))`
		sql += `kept_{kind} AS (
    SELECT FROM {kind}_score s, (VALUES ({ids}::bigint[], {sums}::float8[])) d (ids, sums)
    WHERE s.child_profile_id = $1 AND s.{kind}_id = ANY (d.ids) AND s.` + others + `
        AND s.score + d.sums[array_position(d.ids, s.{kind}_id)] = s.score
), `
	}
	sql += `{kind}s AS (
    ` + written + `
    UNION ALL SELECT {kind}_id, score FROM {kind}_score WHERE child_profile_id = $1 AND ` + others + `
)`
	return strings.NewReplacer("{kind}", kind, "{ids}", ids, "{sums}", sums).Replace(sql)
}

func preferred(kind string) string {
	return strings.NewReplacer("{kind}", kind, "{enough}", enough).Replace(`favorite_{kind}s AS (
    INSERT INTO favorite_{kind} (child_profile_id, history_id, {kind}_id)
    SELECT $1, (SELECT id FROM header), id
    FROM (SELECT id, score, {enough} AS enough FROM {kind}s WHERE score > 0) s WHERE score >= enough
)`)
}
