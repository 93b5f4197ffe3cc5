// Package tables knows the kinds of tables that the application's rows may be in, so that seeding and
// the oracle work on each. It reads and writes these tables themselves, never what the aggregator
// may have put in front of them.
package tables

import (
	"fmt"
	"slices"
)

// Kind is a kind of tables. The zero value is Own.
type Kind string

// The kinds.
const (
	Own    Kind = "own"    // what `aggregator migrate up` makes in an empty database
	Origin Kind = "origin" // those of the application that the aggregator was made for: origin.sql
)

// Check says what is wrong with the kind.
func (k Kind) Check() error {
	if k != "" && k != Own && k != Origin {
		return fmt.Errorf("unknown tables %q: %s or %s", string(k), Own, Origin)
	}
	return nil
}

// Scores are the columns of the eight letters.
const Scores = "i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score"

// layout says what one kind of tables is like. Tables and columns go by our own names where nothing
// else is said.
type layout struct {
	filled   []string          // the tables that seeding and events fill
	names    map[string]string // what a table of ours is called
	views    map[string]string // what to read a table of ours from, if it is no one table
	diagnose string
	loose    string
}

var own = layout{
	filled: []string{
		"genre", "topic", "book", "book_topic", "book_mbti", "child_profile",
		"genre_score", "topic_score", "cumulative_mbti_score",
		"child_personality_history", "favorite_genre", "favorite_topic",
	},
	diagnose: `INSERT INTO child_personality_history (child_profile_id, created_at, history_created_type, mbti_id)
		SELECT id, now() - interval '1 day', 'DIAGNOSIS', $1 FROM child_profile ORDER BY id`,
}

var origin = layout{
	filled: []string{
		"genre", "topic", "book", "book_topic", "bookmbti", "child_profile",
		"genre_score", "topic_score", "cumulativembtiscore", "mbtiscore",
		"child_personality_history", "favorite_genre", "favorite_topic",
	},
	names: map[string]string{"book_mbti": "bookmbti", "cumulative_mbti_score": "cumulativembtiscore"},
	views: map[string]string{
		"child_personality_history": `(SELECT h.id, h.child_profile_id, h.created_at,
			CASE h.history_created_type WHEN 0 THEN 'DIAGNOSIS' WHEN 1 THEN 'FEEDBACK'
				ELSE h.history_created_type::text END AS history_created_type,
			s.mbti_id, ` + Scores + `
			FROM child_personality_history h LEFT JOIN mbtiscore s ON s.id = h.mbti_score_id) AS history`,
	},
	// The rows of mbtiscore are all alike, so that it does not matter which profile gets which. PostgreSQL
	// turns now() into what the clock on the wall says where the database is.
	diagnose: `WITH given AS (
			INSERT INTO mbtiscore (` + Scores + `, mbti_id)
			SELECT 0, 0, 0, 0, 0, 0, 0, 0, $1 FROM child_profile RETURNING id
		)
		INSERT INTO child_personality_history
			(created_at, is_deleted, history_created_type, child_profile_id, mbti_score_id)
		SELECT (now() - interval '1 day')::timestamp, false, 0, profile.id, score.id
		FROM (SELECT id, row_number() OVER (ORDER BY id) AS number FROM child_profile) profile
		JOIN (SELECT id, row_number() OVER (ORDER BY id) AS number FROM given) score USING (number)
		ORDER BY number`,
	loose: `SELECT count(*) FROM mbtiscore s
		WHERE NOT EXISTS (SELECT FROM child_personality_history h WHERE h.mbti_score_id = s.id)`,
}

func (k Kind) layout() *layout {
	if k == Origin {
		return &origin
	}
	return &own
}

// Filled are the tables of the application that seeding and events fill, by the names that they have.
// The personality types are not among them: they stay.
func (k Kind) Filled() []string { return slices.Clone(k.layout().filled) }

// Name is what a table that we know by one name is called.
func (k Kind) Name(table string) string {
	if name, differs := k.layout().names[table]; differs {
		return name
	}
	return table
}

// From is what to read a table that we know by one name from: a table, or a query that has its columns.
func (k Kind) From(table string) string {
	if view, differs := k.layout().views[table]; differs {
		return view
	}
	return k.Name(table)
}

// Diagnose is the statement that gives each profile the row of history that the application writes when
// a child joins: of a day ago, with the type $1 and nothing scored yet.
func (k Kind) Diagnose() string { return k.layout().diagnose }

// Loose is a query that counts the rows of MBTI scores that belong to no row of history; empty if these are
// in the same row.
func (k Kind) Loose() string { return k.layout().loose }
