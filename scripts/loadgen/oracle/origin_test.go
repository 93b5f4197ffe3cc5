package oracle

import (
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/scripts/loadgen/journal"
	"aggregator/scripts/loadgen/tables"
	"aggregator/scripts/loadgen/workload"
)

// originStatements do what ownStatements do, in the origin's tables: these have no unique key to run into,
// and the scores of a history row come in a table of their own.
var originStatements = []string{
	`UPDATE genre_score s SET score = score + delta
	FROM (SELECT child_profile_id, genre_id, sum(weight) delta FROM event 
		JOIN book ON book.id = book_id GROUP BY 1, 2) e
	WHERE s.child_profile_id = e.child_profile_id AND s.genre_id = e.genre_id`,

	`INSERT INTO genre_score (child_profile_id, genre_id, score)
	SELECT child_profile_id, genre_id, sum(weight) FROM event JOIN book ON book.id = book_id
	WHERE (child_profile_id, genre_id) NOT IN (SELECT child_profile_id, genre_id FROM genre_score) GROUP BY 1, 2`,

	`UPDATE topic_score s SET score = score + delta
	FROM (SELECT child_profile_id, topic_id, sum(weight) delta FROM event
		JOIN book_topic USING (book_id) GROUP BY 1, 2) e
	WHERE s.child_profile_id = e.child_profile_id AND s.topic_id = e.topic_id`,

	`INSERT INTO topic_score (child_profile_id, topic_id, score)
	SELECT child_profile_id, topic_id, sum(weight) FROM event JOIN book_topic USING (book_id)
	WHERE (child_profile_id, topic_id) NOT IN (SELECT child_profile_id, topic_id FROM topic_score) GROUP BY 1, 2`,

	`INSERT INTO cumulativembtiscore AS c (child_profile_id, ` + tables.Scores + `)
	SELECT child_profile_id, ` + letterSums + `
	FROM event LEFT JOIN bookmbti USING (book_id) LEFT JOIN mbti ON mbti.id = mbti_id GROUP BY 1
	ON CONFLICT (child_profile_id) DO UPDATE SET
		i_score = c.i_score + excluded.i_score, e_score = c.e_score + excluded.e_score,
		s_score = c.s_score + excluded.s_score, n_score = c.n_score + excluded.n_score,
		t_score = c.t_score + excluded.t_score, f_score = c.f_score + excluded.f_score,
		j_score = c.j_score + excluded.j_score, p_score = c.p_score + excluded.p_score`,

	`WITH now AS (
		SELECT nextval(pg_get_serial_sequence('mbtiscore', 'id')) AS score_id, child_profile_id, mbti.id AS mbti_id,
			` + tables.Scores + `
		FROM cumulativembtiscore JOIN mbti ON mbti = CASE WHEN i_score >= e_score THEN 'I' ELSE 'E' END
			|| CASE WHEN n_score >= s_score THEN 'N' ELSE 'S' END || CASE WHEN t_score >= f_score THEN 'T' ELSE 'F' END
			|| CASE WHEN j_score >= p_score THEN 'J' ELSE 'P' END
		WHERE child_profile_id IN (SELECT child_profile_id FROM event)
	), given AS (
		INSERT INTO mbtiscore (id, mbti_id, ` + tables.Scores + `)
		SELECT score_id, mbti_id, ` + tables.Scores + ` FROM now
	)
	INSERT INTO child_personality_history
		(created_at, is_deleted, history_created_type, child_profile_id, mbti_score_id)
	SELECT clock_timestamp()::timestamp, false, 1, child_profile_id, score_id FROM now`,
}

func TestWhatIsRightPassesOnTheOriginsTables(t *testing.T) {
	for name, o := range map[string]Options{
		"mean of positive":          {Tables: tables.Origin},
		"above mean of nonnegative": {Tables: tables.Origin, Preferred: AboveMeanOfNonnegative},
	} {
		t.Run(name, func(t *testing.T) {
			db := fillTables(t, tables.Origin)
			var runs []*journal.Run
			for seed := uint64(1); seed <= 2; seed++ {
				referenceOn(t, db, o, settings(seed), everything)
				runs = append(runs, journal.Complete(settings(seed)))
			}
			report := verifyOn(t, db, o, runs...)
			require.Empty(t, report.First)
			require.True(t, report.OK())
			require.Equal(t, int64(3_000), report.Applied+report.Dead)
			require.Positive(t, report.Dead)
			require.Equal(t, int64(100), report.HistoryRows)
			require.Equal(t, int64(1_500), verifyOn(t, db, o, runs[0]).Doubled)
		})
	}
}

// Both rules choose others in the rows of these tests: each finds the favorites of the other one wrong.
func TestTheRuleMatters(t *testing.T) {
	for _, kind := range []tables.Kind{tables.Own, tables.Origin} {
		for _, rule := range []Preferred{MeanOfPositive, AboveMeanOfNonnegative} {
			t.Run(string(kind)+" "+string(rule), func(t *testing.T) {
				db, s := fillTables(t, kind), settings(1)
				referenceOn(t, db, Options{Tables: kind, Preferred: rule}, s, everything)
				for _, other := range []Preferred{MeanOfPositive, AboveMeanOfNonnegative} {
					report := verifyOn(t, db, Options{Tables: kind, Preferred: other}, journal.Complete(s))
					require.Equal(t, rule == other, report.OK(), "%+v", report.First)
					for _, m := range report.First {
						require.Contains(t, []string{"favorite_genre", "favorite_topic"}, m.Table)
					}
				}
			})
		}
	}
}

// Each statement spoils one thing in the origin's tables, and the report must point at the table.
func TestEveryKindOfErrorIsFoundInTheOriginsTables(t *testing.T) {
	const (
		history = "(SELECT max(id) FROM child_personality_history WHERE child_profile_id = 7)"
		scores  = "(SELECT mbti_score_id FROM child_personality_history WHERE id = " + history + ")"
	)
	cases := map[string]map[string]string{
		"aggregator.mark": {
			"lost": "UPDATE aggregator.mark SET applied = applied - 1 WHERE child_profile_id = 7",
		},
		"genre_score": {
			"off":       "UPDATE genre_score SET score = score + 2 WHERE child_profile_id = 7 AND genre_id = 2",
			"missing":   "DELETE FROM genre_score WHERE child_profile_id = 7 AND genre_id = 2",
			"untouched": "UPDATE genre_score SET score = -2 WHERE child_profile_id = 55",
			"of nobody": "INSERT INTO genre_score (score, genre_id) VALUES (0, 1)",
			"in two rows": `
				WITH one AS (UPDATE genre_score SET score = score - 2 WHERE child_profile_id = 7 AND genre_id = 2)
				INSERT INTO genre_score (child_profile_id, genre_id, score) VALUES (7, 2, 2)`,
		},
		"topic_score": {
			"off":         "UPDATE topic_score SET score = score - 2 WHERE child_profile_id = 7 AND topic_id = 3",
			"of no topic": "INSERT INTO topic_score (score, child_profile_id) VALUES (0, 7)",
		},
		"cumulativembtiscore": {
			"off":       "UPDATE cumulativembtiscore SET f_score = f_score + 2 WHERE child_profile_id = 7",
			"missing":   "DELETE FROM cumulativembtiscore WHERE child_profile_id = 7",
			"of nobody": "UPDATE cumulativembtiscore SET child_profile_id = NULL WHERE child_profile_id = 7",
		},
		"child_personality_history": {
			"missing": `
				DELETE FROM favorite_genre WHERE history_id = ` + history + `;
				DELETE FROM favorite_topic WHERE history_id = ` + history + `;
				DELETE FROM child_personality_history WHERE child_profile_id = 7`,
			"untouched": `
				INSERT INTO child_personality_history (created_at, is_deleted, history_created_type, child_profile_id)
				VALUES (now()::timestamp, false, 1, 55)`,
			"of nobody": `
				INSERT INTO child_personality_history (created_at, is_deleted, history_created_type)
				VALUES (now()::timestamp, false, 1)`,
			"of old": `
				INSERT INTO child_personality_history (created_at, is_deleted, history_created_type, child_profile_id)
				VALUES (now()::timestamp + interval '1 hour', false, 1, 7)`,
			"without a time": "UPDATE child_personality_history SET created_at = NULL WHERE id = " + history,
			"ordinal of a diagnosis": `
				UPDATE child_personality_history SET history_created_type = 0 WHERE id = ` + history,
			"another without an ordinal": `
				INSERT INTO child_personality_history (created_at, is_deleted, child_profile_id)
				VALUES (now()::timestamp + interval '1 hour', false, 7)`,
			"no ordinal": "UPDATE child_personality_history SET history_created_type = NULL WHERE id = " + history,
			"another ordinal": `
				ALTER TABLE child_personality_history
					DROP CONSTRAINT child_personality_history_history_created_type_check;
				UPDATE child_personality_history SET history_created_type = 2 WHERE id = ` + history,
			"score off": "UPDATE mbtiscore SET p_score = p_score + 2 WHERE id = " + scores,
			"another type": `
				UPDATE mbtiscore s SET mbti_id = (SELECT min(id) FROM mbti WHERE id <> s.mbti_id) WHERE id = ` + scores,
			"no type":   "UPDATE mbtiscore SET mbti_id = NULL WHERE id = " + scores,
			"no scores": "UPDATE child_personality_history SET mbti_score_id = NULL WHERE id = " + history,
		},
		"mbtiscore": {
			"of no history": "INSERT INTO mbtiscore (" + tables.Scores + ") VALUES (0, 0, 0, 0, 0, 0, 0, 0)",
			"let go of":     "UPDATE child_personality_history SET mbti_score_id = NULL WHERE id = " + history,
		},
		"favorite_genre": {
			"missing":    "DELETE FROM favorite_genre WHERE history_id = " + history,
			"too many":   "INSERT INTO favorite_genre (genre_id, history_id) SELECT id, " + history + " FROM genre",
			"of no row":  "UPDATE favorite_genre SET history_id = NULL WHERE history_id = " + history,
			"of nothing": "INSERT INTO favorite_genre (history_id) VALUES (" + history + ")",
		},
		"favorite_topic": {
			"twice": `
				INSERT INTO favorite_topic (topic_id, history_id)
				SELECT topic_id, history_id FROM favorite_topic WHERE history_id = ` + history,
			"of another": `
				UPDATE favorite_topic
				SET history_id = (SELECT max(id) FROM child_personality_history WHERE child_profile_id = 8)
				WHERE history_id = ` + history,
			"another": `
				UPDATE favorite_topic SET topic_id = (SELECT max(id) FROM topic WHERE id NOT IN
					(SELECT topic_id FROM favorite_topic WHERE history_id = ` + history + `))
				WHERE id = (SELECT min(id) FROM favorite_topic WHERE history_id = ` + history + ")",
		},
	}
	o, s := Options{Tables: tables.Origin}, settings(1)
	db := fillTables(t, tables.Origin)
	referenceOn(t, db, o, s, everything)
	for table, spoils := range cases {
		for name, spoil := range spoils {
			t.Run(table+" "+name, func(t *testing.T) {
				report := verifySpoiled(t, db, o, s, spoil)
				require.False(t, report.OK())
				var named []string
				for _, m := range report.First {
					named = append(named, m.Table)
				}
				require.Contains(t, named, table, "%+v", report.First)
				require.LessOrEqual(t, report.Mismatches, int64(5), "%+v", report.First)
			})
		}
	}
	require.True(t, verifyOn(t, db, o, journal.Complete(s)).OK(), "left spoiled")
}

// What the application diagnosed, and rows that join nothing, are no business of ours.
func TestRowsOfTheApplicationAreLeftAlone(t *testing.T) {
	o, s := Options{Tables: tables.Origin}, settings(1)
	db := fillTables(t, tables.Origin)
	referenceOn(t, db, o, s, everything)
	exec(t, db, `INSERT INTO child_personality_history (created_at, is_deleted, history_created_type, child_profile_id)
		VALUES (now()::timestamp + interval '1 hour', true, 0, $1)`, 7)
	exec(t, db, "INSERT INTO book_topic (book_id) VALUES ($1)", 1)
	exec(t, db, "INSERT INTO bookmbti (mbti_id) VALUES ($1)", 1)
	exec(t, db, "INSERT INTO mbti (title) VALUES ($1)", "none of the sixteen")
	report := verifyOn(t, db, o, journal.Complete(s))
	require.True(t, report.OK(), "%+v", report.First)
}

// An application may have its numbers, words and keys of other types than ours, under the names of ours.
func TestOtherTypesOfColumns(t *testing.T) {
	for _, rule := range []Preferred{MeanOfPositive, AboveMeanOfNonnegative} {
		t.Run(string(rule), func(t *testing.T) { testOtherTypes(t, Options{Preferred: rule}) })
	}
}

func testOtherTypes(t *testing.T, o Options) {
	db, s := fill(t), settings(1)
	exec(t, db, `ALTER TABLE genre_score ALTER score DROP NOT NULL, ALTER score DROP DEFAULT;
		ALTER TABLE cumulative_mbti_score ALTER e_score DROP NOT NULL`)
	exec(t, db, "UPDATE genre_score SET score = NULL WHERE child_profile_id = $1", 56)
	exec(t, db, "UPDATE cumulative_mbti_score SET e_score = NULL WHERE child_profile_id > $1", 50)
	referenceOn(t, db, o, s, everything)
	exec(t, db, `ALTER TABLE genre_score ALTER score TYPE numeric;
		ALTER TABLE topic_score ALTER score DROP DEFAULT, ALTER score TYPE integer;
		ALTER TABLE cumulative_mbti_score ALTER i_score DROP DEFAULT, ALTER i_score TYPE real;
		ALTER TABLE child_personality_history ALTER p_score DROP DEFAULT, ALTER p_score TYPE numeric(12, 2);
		CREATE TYPE kind AS ENUM ('FEEDBACK', 'DIAGNOSIS');
		ALTER TABLE child_personality_history ALTER history_created_type DROP DEFAULT,
			ALTER history_created_type TYPE kind USING history_created_type::kind;
		ALTER TABLE mbti ALTER mbti TYPE char(10);
		ALTER TABLE favorite_genre DROP COLUMN child_profile_id;
		ALTER TABLE favorite_topic DROP COLUMN child_profile_id`)
	report := verifyOn(t, db, o, journal.Complete(s))
	require.True(t, report.OK(), "%+v", report.First)

	const off = " + 1 WHERE child_profile_id = 7"
	for table, spoil := range map[string]string{
		"genre_score":               "UPDATE genre_score SET score = score" + off + " AND genre_id = 1",
		"topic_score":               "UPDATE topic_score SET score = score" + off + " AND topic_id = 1",
		"cumulative_mbti_score":     "UPDATE cumulative_mbti_score SET i_score = i_score" + off,
		"child_personality_history": "UPDATE child_personality_history SET p_score = p_score" + off,
		"favorite_genre": `DELETE FROM favorite_genre
			WHERE history_id = (SELECT max(id) FROM child_personality_history WHERE child_profile_id = 7)`,
	} {
		report := verifySpoiled(t, db, o, s, spoil)
		require.False(t, report.OK(), table)
		require.Equal(t, table, report.First[0].Table, "%+v", report.First)
	}
}

// A score that is NULL counts as 0, and has no part in the mean of the profile that likes one book.
func TestNullHasNoPartInTheMean(t *testing.T) {
	o := Options{Preferred: AboveMeanOfNonnegative}
	db, s := fill(t), settings(1)
	s.Count, s.Malformed, s.Unknown, s.Duplicates, s.LikeRatio = 1, 0, 0, 0, 1
	events, err := workload.Open(s)
	require.NoError(t, err)
	e := events.At(0)
	genre := shape().Book(e.Book).Genre
	exec(t, db, "ALTER TABLE genre_score ALTER score DROP NOT NULL")
	exec(t, db, "DELETE FROM genre_score WHERE child_profile_id = $1", e.Profile)
	for id := int64(1); id <= shape().Genres; id++ {
		if shape().HasGenreScore(e.Profile, id) && id != genre {
			exec(t, db, "INSERT INTO genre_score VALUES ($1, $2, NULL)", e.Profile, id)
		}
	}
	referenceOn(t, db, o, s, everything)
	// Alone among NULLs the genre is no favorite, as nothing is above a mean of one.
	report := verifyOn(t, db, o, journal.Complete(s))
	require.True(t, report.OK(), "%+v", report.First)
	exec(t, db, "UPDATE genre_score SET score = 0 WHERE score IS NULL AND child_profile_id = $1", e.Profile)
	report = verifyOn(t, db, o, journal.Complete(s))
	require.Equal(t, int64(1), report.Mismatches, "%+v", report.First)
	require.Equal(t, "favorite_genre", report.First[0].Table)
}
