package oracle

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
	seeding "aggregator/scripts/loadgen/catalogue"
	"aggregator/scripts/loadgen/journal"
	"aggregator/scripts/loadgen/tables"
	"aggregator/scripts/loadgen/workload"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func shape() seeding.Shape {
	return seeding.Shape{Genres: 4, Topics: 6, Books: 80, Profiles: 60, Missing: 0.3, Seed: 5}
}

// fill returns a connection to a database of our own tables, filled after shape.
func fill(t *testing.T) *pgx.Conn { return fillTables(t, tables.Own) }

// fillTables is fill for either kind of tables. The origin's come in place of ours, with all that is in schema
// aggregator.
func fillTables(t *testing.T, k tables.Kind) *pgx.Conn {
	t.Helper()
	db, err := pgx.Connect(t.Context(), testenv.Database(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close(context.WithoutCancel(t.Context()))) })
	if k == tables.Origin {
		exec(t, db, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
		require.NoError(t, tables.Create(t.Context(), db))
	}
	_, err = seeding.FillTables(t.Context(), db, k, shape(), false)
	require.NoError(t, err)
	return db
}

func settings(seed uint64) workload.Settings {
	s := workload.Defaults()
	// Profiles 51 to 60 stay untouched.
	s.Count, s.Profiles, s.Books, s.Seed, s.Partitions = 1_500, 50, 80, seed, 2
	s.Malformed, s.Unknown, s.Duplicates = 0.1, 0.1, 0.1
	return s
}

// reference does in SQL, on its own reading of the rules, what the aggregator must do:
// it applies the events of a push that keep is true of, all as one chunk.
func reference(t *testing.T, db *pgx.Conn, s workload.Settings, keep func(index int64) bool) {
	t.Helper()
	referenceOn(t, db, Options{}, s, keep)
}

// referenceOn is reference on the tables and by the rule of the options.
func referenceOn(t *testing.T, db *pgx.Conn, o Options, s workload.Settings, keep func(index int64) bool) {
	t.Helper()
	events, err := workload.Open(s)
	require.NoError(t, err)
	sources := s.Streams()
	var good, junk [][]any
	for i := range events.Len() {
		if !keep(i) {
			continue
		}
		e := events.At(i)
		form, payload := e.Payload()
		row := []any{sources[e.Partition], int64(s.Seed), i, form, payload}
		if e.Junk != "" {
			junk = append(junk, append(row, e.Junk))
			continue
		}
		weight := -2.0
		if e.Like {
			weight = 2
		}
		good = append(good, append(row, e.Profile, e.Book, weight))
	}
	exec(t, db, `CREATE TEMP TABLE event (source text, position_ms bigint, position_seq bigint,
		payload_form text, payload bytea, child_profile_id bigint, book_id bigint, weight double precision)`)
	columns := []string{"source", "position_ms", "position_seq", "payload_form", "payload"}
	_, err = db.CopyFrom(t.Context(), pgx.Identifier{"aggregator", "dead_letter"}, append(columns[:5:5], "reason"),
		pgx.CopyFromRows(junk))
	require.NoError(t, err)
	_, err = db.CopyFrom(t.Context(), pgx.Identifier{"event"},
		append(columns[:5:5], "child_profile_id", "book_id", "weight"), pgx.CopyFromRows(good))
	require.NoError(t, err)
	for _, statement := range referenceStatements(o) {
		exec(t, db, statement)
	}
}

func exec(t *testing.T, db *pgx.Conn, statement string, args ...any) {
	t.Helper()
	tag, err := db.Exec(t.Context(), statement, args...)
	require.NoError(t, err, statement)
	if len(args) > 0 {
		require.Positive(t, tag.RowsAffected(), statement)
	}
}

func referenceStatements(o Options) []string {
	all := slices.Clone(letterStatements)
	if o.Tables == tables.Origin {
		all = append(all, originStatements...)
	} else {
		all = append(all, ownStatements...)
	}
	const others = "(SELECT avg(score) FROM @_score a WHERE a.child_profile_id = s.child_profile_id AND score "
	preferred := "score > 0 AND score >= " + others + "> 0)"
	if o.Preferred == AboveMeanOfNonnegative {
		preferred = "score > " + others + ">= 0)"
	}
	favorites := "INSERT INTO favorite_@ (child_profile_id, history_id, @_id) SELECT s.child_profile_id, h.id, @_id"
	if o.Tables == tables.Origin {
		favorites = "INSERT INTO favorite_@ (history_id, @_id) SELECT h.id, @_id"
	}
	favorites += `
		FROM @_score s, LATERAL (SELECT max(id) id FROM child_personality_history h
			WHERE h.child_profile_id = s.child_profile_id) h
		WHERE s.child_profile_id IN (SELECT child_profile_id FROM event) AND ` + preferred
	for _, of := range []string{"genre", "topic"} {
		all = append(all, strings.ReplaceAll(favorites, "@", of))
	}
	return append(all, "DROP TABLE event")
}

var letterStatements = []string{
	`INSERT INTO aggregator.dead_letter (source, position_ms, position_seq, payload_form, payload, reason)
	SELECT source, position_ms, position_seq, payload_form, payload,
		CASE WHEN child_profile_id NOT IN (SELECT id FROM child_profile) THEN 'unknown_profile' ELSE 'unknown_book' END
	FROM event WHERE child_profile_id NOT IN (SELECT id FROM child_profile) OR book_id NOT IN (SELECT id FROM book)`,

	// A mark for an unknown profile as well, of nothing applied.
	`INSERT INTO aggregator.mark (child_profile_id, source, position_ms, position_seq, applied)
	SELECT child_profile_id, source, max(position_ms), max(position_seq),
		count(*) FILTER (WHERE child_profile_id IN (SELECT id FROM child_profile) AND book_id IN (SELECT id FROM book))
	FROM event GROUP BY child_profile_id, source
	ON CONFLICT (child_profile_id, source) DO UPDATE SET applied = aggregator.mark.applied + excluded.applied`,

	`DELETE FROM event WHERE child_profile_id NOT IN (SELECT id FROM child_profile) OR book_id NOT IN (SELECT id ` +
		`FROM book)`,
}

var ownStatements = []string{
	`INSERT INTO genre_score SELECT child_profile_id, genre_id, sum(weight) FROM event JOIN book ON book.id = book_id
		GROUP BY 1, 2
	ON CONFLICT (child_profile_id, genre_id) DO UPDATE SET score = genre_score.score + excluded.score`,

	`INSERT INTO topic_score SELECT child_profile_id, topic_id, sum(weight) FROM event JOIN book_topic USING (book_id)
		GROUP BY 1, 2
	ON CONFLICT (child_profile_id, topic_id) DO UPDATE SET score = topic_score.score + excluded.score`,

	`INSERT INTO cumulative_mbti_score AS c
	SELECT child_profile_id, ` + letterSums +
		` FROM event LEFT JOIN book_mbti USING (book_id) LEFT JOIN mbti ON mbti.id = mbti_id GROUP BY 1
	ON CONFLICT (child_profile_id) DO UPDATE SET
		i_score = c.i_score + excluded.i_score, e_score = c.e_score + excluded.e_score,
		s_score = c.s_score + excluded.s_score, n_score = c.n_score + excluded.n_score,
		t_score = c.t_score + excluded.t_score, f_score = c.f_score + excluded.f_score,
		j_score = c.j_score + excluded.j_score, p_score = c.p_score + excluded.p_score`,

	`INSERT INTO child_personality_history (child_profile_id, created_at, mbti_id, ` + tables.Scores + `)
	SELECT child_profile_id, clock_timestamp(), mbti.id, ` + tables.Scores + `
	FROM cumulative_mbti_score JOIN mbti ON mbti = CASE WHEN i_score >= e_score THEN 'I' ELSE 'E' END
		|| CASE WHEN n_score >= s_score THEN 'N' ELSE 'S' END || CASE WHEN t_score >= f_score THEN 'T' ELSE 'F' END
		|| CASE WHEN j_score >= p_score THEN 'J' ELSE 'P' END
	WHERE child_profile_id IN (SELECT child_profile_id FROM event)`,
}

const letterSums = `
	coalesce(sum(weight) FILTER (WHERE mbti LIKE 'I___'), 0), coalesce(sum(weight) FILTER (WHERE mbti LIKE 'E___'), 0),
	coalesce(sum(weight) FILTER (WHERE mbti LIKE '_S__'), 0), coalesce(sum(weight) FILTER (WHERE mbti LIKE '_N__'), 0),
	coalesce(sum(weight) FILTER (WHERE mbti LIKE '__T_'), 0), coalesce(sum(weight) FILTER (WHERE mbti LIKE '__F_'), 0),
	coalesce(sum(weight) FILTER (WHERE mbti LIKE '___J'), 0), coalesce(sum(weight) FILTER (WHERE mbti LIKE '___P'), 0)`

func everything(int64) bool { return true }

func verify(t *testing.T, db *pgx.Conn, runs ...*journal.Run) Report {
	t.Helper()
	return verifyOn(t, db, Options{}, runs...)
}

// verifyOn is verify on the tables and by the rule of the options.
func verifyOn(t *testing.T, db *pgx.Conn, o Options, runs ...*journal.Run) Report {
	t.Helper()
	s := shape()
	o.Weights, o.Seeded = Weights{2, -2}, &s
	report, err := Verify(t.Context(), db, runs, o)
	require.NoError(t, err)
	return report
}
