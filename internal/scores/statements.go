package scores

import (
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// RowMissing is the SQLSTATE with which Queue fails its transaction when a score to be
// added to has no row, unless it may create it.
const RowMissing = "LG004"

// Queue puts the statements that add the deltas onto the batch of one transaction. The
// deltas must be of different profiles, in rising order of their ids. It sends nothing;
// errors come from whoever sends the batch, RowMissing among them unless create says that
// missing rows are made. Nearly always all are there, and to look for those that are not
// takes a while.
func Queue(batch *pgx.Batch, deltas []Delta, create bool) {
	if slices.ContainsFunc(deltas, Delta.Wide) {
		for _, d := range deltas {
			queueWide(batch, addManyGenres, d.ProfileID, d.Genres)
			queueWide(batch, addManyTopics, d.ProfileID, d.Topics)
		}
		QueueLetters(batch, deltas)
		return
	}
	genreSums, topicSums := addGenres, addTopics
	if create {
		genreSums, topicSums = createGenres, createTopics
	}
	if c := columnsOf(deltas, genres); len(c.ids) > 0 {
		batch.Queue(genreSums, c.profiles, c.first, c.last, c.ids, c.values)
	}
	if c := columnsOf(deltas, topics); len(c.ids) > 0 {
		batch.Queue(topicSums, c.profiles, c.first, c.last, c.ids, c.values)
	}
	QueueLetters(batch, deltas)
}

// manySums is from how many genres or topics on a delta is Wide.
const manySums = 500

// Wide says whether a delta has so many sums that to look through all of them for each row, which
// is the fastest way for few, would take too long.
func (d Delta) Wide() bool { return len(d.Genres) >= manySums || len(d.Topics) >= manySums }

func queueWide(batch *pgx.Batch, sql string, profileID int64, sums []Sum) {
	if len(sums) == 0 {
		return
	}
	ids, values := make([]int64, len(sums)), make([]float64, len(sums))
	for i, s := range sums {
		ids[i], values[i] = s.ID, s.Value
	}
	batch.Queue(sql, profileID, ids, values)
}

func genres(d Delta) []Sum { return d.Genres }
func topics(d Delta) []Sum { return d.Topics }

// columns are the sums of several profiles, an array a column: of each profile, where its
// sums begin and end among those of all, counted from 1.
type columns struct {
	profiles    []int64
	first, last []int32
	ids         []int64
	values      []float64
}

func columnsOf(deltas []Delta, sums func(Delta) []Sum) columns {
	n := 0
	for _, d := range deltas {
		n += len(sums(d))
	}
	c := columns{ids: make([]int64, 0, n), values: make([]float64, 0, n)}
	for _, d := range deltas {
		some := sums(d)
		if len(some) == 0 {
			continue
		}
		c.profiles = append(c.profiles, d.ProfileID)
		c.first = append(c.first, int32(len(c.ids)+1))
		for _, s := range some {
			c.ids, c.values = append(c.ids, s.ID), append(c.values, s.Value)
		}
		c.last = append(c.last, int32(len(c.ids)))
	}
	return c
}

// QueueLetters is Queue for the MBTI scores alone, whose row it creates itself.
func QueueLetters(batch *pgx.Batch, deltas []Delta) {
	var typed []Delta
	for _, d := range deltas {
		if d.Typed {
			typed = append(typed, d)
		}
	}
	switch n := len(typed); n {
	case 0:
	case 1:
		d := typed[0]
		m := d.MBTI
		batch.Queue(addLettersOfOne, d.ProfileID, m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7])
	default:
		profiles, values := make([]int64, n), make([]float64, n*NumLetters)
		for i, d := range typed {
			profiles[i] = d.ProfileID
			for letter, v := range d.MBTI {
				values[letter*n+i] = v
			}
		}
		args := []any{profiles}
		for letter := range NumLetters {
			args = append(args, values[letter*n:(letter+1)*n])
		}
		batch.Queue(addLetters, args...)
	}
}

// Rows come as one array a column, so that one prepared statement serves any number of
// them; see docs/decisions/006-arrays-not-values.md.
var (
	addGenres    = of("genre", addSums)
	addTopics    = of("topic", addSums)
	createGenres = of("genre", createSums)
	createTopics = of("topic", createSums)

	addManyGenres = of("genre", addManySums)
	addManyTopics = of("topic", addManySums)
)

func of(kind, sql string) string { return strings.ReplaceAll(sql, "{kind}", kind) }

const (
	// All scores of a profile are read, and each is looked for among the profile's sums. That
	// is cheaper than to look each sum up in the index, out of which "+ 0" keeps it.
	addedSums = `WITH delta AS MATERIALIZED (
    SELECT child_profile_id, ($4::bigint[])[first:last] AS ids, ($5::float8[])[first:last] AS sums
    FROM unnest($1::bigint[], $2::int[], $3::int[]) d (child_profile_id, first, last)
), added AS (
    UPDATE {kind}_score s SET score = s.score + d.sums[array_position(d.ids, s.{kind}_id)]
    FROM delta d
    WHERE s.child_profile_id = d.child_profile_id AND s.{kind}_id + 0 = ANY (d.ids)
    RETURNING s.child_profile_id, s.{kind}_id AS id
)`

	refuse = `
SELECT aggregator.require(false, '` + RowMissing + `', 'a {kind} score has no row')`

	addSums = addedSums + refuse + ` FROM added HAVING count(*) <> cardinality($4)`

	// If the application inserts one of them meanwhile, this waits until it has, and adds to it.
	createSums = addedSums + `, created AS (
    INSERT INTO {kind}_score AS s (child_profile_id, {kind}_id, score)
    SELECT d.child_profile_id, u.id, u.sum FROM delta d CROSS JOIN unnest(d.ids, d.sums) u (id, sum)
    WHERE (d.child_profile_id, u.id) NOT IN (SELECT child_profile_id, id FROM added)
    ON CONFLICT (child_profile_id, {kind}_id) DO UPDATE SET score = s.score + excluded.score
    RETURNING child_profile_id, {kind}_id AS id
), written AS (
    SELECT child_profile_id, id FROM added UNION ALL SELECT child_profile_id, id FROM created
), kept AS (
    SELECT FROM delta d CROSS JOIN LATERAL (
        SELECT child_profile_id, {kind}_id AS id, score FROM {kind}_score WHERE child_profile_id = d.child_profile_id
        OFFSET 0 -- profile by profile, however few rows the table had when this was planned
    ) s
    WHERE s.id = ANY (d.ids) AND s.score + d.sums[array_position(d.ids, s.id)] = s.score
        AND (s.child_profile_id, s.id) NOT IN (SELECT child_profile_id, id FROM written)
)` + refuse + ` FROM (SELECT FROM written UNION ALL SELECT FROM kept) there HAVING count(*) <> cardinality($4)`

	// The same for one profile with a great many sums: each is looked up.
	//
	// A row that a trigger keeps as it is, for nothing would change (as
	// suppress_redundant_updates_trigger does), does not come back, here as above: it is kept.
	addManySums = `WITH delta AS MATERIALIZED (
    SELECT id, sum FROM unnest($2::bigint[], $3::float8[]) d (id, sum)
), added AS (
    UPDATE {kind}_score s SET score = s.score + d.sum FROM delta d
    WHERE s.child_profile_id = $1 AND s.{kind}_id = d.id
    RETURNING s.{kind}_id AS id
), created AS (
    INSERT INTO {kind}_score AS s (child_profile_id, {kind}_id, score)
    SELECT $1, id, sum FROM delta WHERE id NOT IN (SELECT id FROM added)
    ON CONFLICT (child_profile_id, {kind}_id) DO UPDATE SET score = s.score + excluded.score
    RETURNING {kind}_id AS id
), written AS (
    SELECT id FROM added UNION ALL SELECT id FROM created
), kept AS (
    SELECT FROM delta d JOIN {kind}_score s ON s.child_profile_id = $1 AND s.{kind}_id = d.id
    WHERE s.score + d.sum = s.score AND d.id NOT IN (SELECT id FROM written)
)` + refuse + ` FROM (SELECT FROM written UNION ALL SELECT FROM kept) there HAVING count(*) <> cardinality($2)`
)

// A profile's MBTI scores are one row: to insert it, or else update it, is one look-up.
const (
	insertLetters = `INSERT INTO cumulative_mbti_score AS s (child_profile_id,
    i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score)
`
	elseAddLetters = `
ON CONFLICT (child_profile_id) DO UPDATE SET
    i_score = s.i_score + excluded.i_score, e_score = s.e_score + excluded.e_score,
    s_score = s.s_score + excluded.s_score, n_score = s.n_score + excluded.n_score,
    t_score = s.t_score + excluded.t_score, f_score = s.f_score + excluded.f_score,
    j_score = s.j_score + excluded.j_score, p_score = s.p_score + excluded.p_score`

	addLettersOfOne = insertLetters + `VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)` + elseAddLetters
	addLetters      = insertLetters + `SELECT * FROM unnest($1::bigint[], $2::float8[], $3::float8[], $4::float8[], $5::float8[],
    $6::float8[], $7::float8[], $8::float8[], $9::float8[])` + elseAddLetters
)
