package apply

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/audit"
	"aggregator/internal/ledger"
	"aggregator/internal/scores"
	"aggregator/internal/testenv"
	"aggregator/internal/verdict"
)

const lettersOfTables = "iesntfjp"

// retype gives the scores of a table another type, and lets them be NULL.
func retype(t *testing.T, pool *pgxpool.Pool, table, of string) {
	t.Helper()
	var columns []string
	if strings.HasSuffix(table, "e_score") && table != "cumulative_mbti_score" || table == "topic_score" {
		columns = []string{"score"}
	} else {
		for _, letter := range lettersOfTables {
			columns = append(columns, string(letter)+"_score")
		}
	}
	for _, column := range columns {
		testenv.Execute(t, pool,
			fmt.Sprintf(`ALTER TABLE %s ALTER %s TYPE %s, ALTER %[2]s DROP NOT NULL, ALTER %[2]s DROP DEFAULT`, table,
				column, of))
	}
}

// typesOfColumns are those that an application may have for scores, and what they make of 1.25.
var typesOfColumns = map[string]string{
	"double precision": "1.25", "real": "1.25", "integer": "1", "bigint": "1", "numeric": "1.25", "numeric(10,1)": "1.3",
}

// retyped is a database whose score columns are of all types, in a mix that depends on a number.
func retyped(t *testing.T, mix int) (pool *pgxpool.Pool, from ledger.Checkpoint, types map[string]string) {
	t.Helper()
	pool, from = written(t)
	names := []string{"double precision", "real", "integer", "numeric(10,1)", "numeric", "bigint"}
	types = map[string]string{}
	for i, table := range []string{"genre_score", "topic_score", "cumulative_mbti_score", "child_personality_history"} {
		types[table] = names[(mix+i)%len(names)]
		retype(t, pool, table, types[table])
	}
	return pool, from, types
}

// Whatever the types of the score columns are, sums are added and stored, the history has what stands then, a
// score that is NULL counts as 0, and a comparison finds no difference.
func TestColumnsOfOtherTypes(t *testing.T) {
	t.Parallel()
	for mix := range 6 {
		pool, from, types := retyped(t, mix)
		t.Run(fmt.Sprint(types), func(t *testing.T) {
			profile := int64(0)
			for name, write := range writers {
				t.Run(name, func(t *testing.T) {
					profile += 2
					testenv.Execute(t, pool, `INSERT INTO genre_score VALUES ($1, 1, NULL), ($1, 2, 3)`, profile)
					testenv.Execute(t, pool, `INSERT INTO topic_score VALUES ($1, 1, NULL), ($1, 2, 3)`, profile)
					testenv.Execute(t, pool, `INSERT INTO cumulative_mbti_score VALUES ($1, NULL, 3, NULL, 0, 3, 0, 0, 0)`, profile)
					sums := []scores.Sum{sum(1, 1.25), sum(2, 1), sum(3, 1.25)}
					ch := change{delta: delta(profile, sums, sums), to: position(1, 0), applied: 1}
					ch.delta.Typed, ch.delta.MBTI = true, [8]float64{1.25, 1, 0, 1.25, 1, 0, 0, 0}
					other := ch
					other.delta.ProfileID++ // that has no rows yet
					require.NoError(t, write(t, pool, from, ch, other))
					number := func(table string) string { return typesOfColumns[types[table]] }
					for _, table := range []string{"genre_score", "topic_score"} {
						id := strings.TrimSuffix(table, "_score") + "_id"
						got := testenv.Query[string](t, pool,
							`SELECT string_agg(score::float8::text, ' ' ORDER BY `+id+`) FROM `+table+` WHERE child_profile_id = $1`,
							profile)
						assert.Equal(t, number(table)+" 4 "+number(table), got, table)
						got = testenv.Query[string](t, pool,
							`SELECT string_agg(score::float8::text, ' ' ORDER BY `+id+`) FROM `+table+` WHERE child_profile_id = $1`,
							profile+1)
						assert.Equal(t, number(table)+" 1 "+number(table), got, table)
					}
					const all = `SELECT concat_ws(' ', i_score::float8, e_score::float8, s_score::float8, n_score::float8, ` +
						`t_score::float8) FROM `
					mbti := number("cumulative_mbti_score")
					assert.Equal(t, mbti+" 4 0 "+mbti+" 4",
						testenv.Query[string](t, pool, all+`cumulative_mbti_score WHERE child_profile_id = $1`, profile))
					assert.Equal(t, mbti+" 1 0 "+mbti+" 1",
						testenv.Query[string](t, pool, all+`cumulative_mbti_score WHERE child_profile_id = $1`, profile+1))
					held := testenv.Query[string](t, pool,
						`SELECT $1::float8::`+types["child_personality_history"]+`::float8::text`, mbti)
					assert.Equal(t, held+" 4 0 "+held+" 4",
						testenv.Query[string](t, pool, all+`child_personality_history WHERE child_profile_id = $1`, profile))
					assert.Equal(t, []string{"g2"}, latest(t, pool, profile).Genres)

					// Without events of books with a type the row has what stood before.
					ch.seen, ch.to, ch.delta.Typed, ch.delta.MBTI = ch.to, position(2, 0), false, [8]float64{}
					require.NoError(t, write(t, pool, from, ch))
					assert.Equal(t, latest(t, pool, profile).Scores.I, testenv.Query[float64](t, pool, `SELECT $1::float8`, held))
				})
			}
			report, err := audit.Scores(t.Context(), pool, scores.MeanOfPositive, nil)
			require.NoError(t, err)
			assert.Equal(t, profile, report.Compared)
			assert.Zero(t, report.Different, report.First)
			testenv.Execute(t, pool, `UPDATE cumulative_mbti_score SET i_score = i_score + 1 WHERE child_profile_id = 2`)
			report, err = audit.Scores(t.Context(), pool, scores.MeanOfPositive, nil)
			require.NoError(t, err)
			assert.EqualValues(t, 1, report.Different, report.First)
		})
	}
}

// A row of which nothing is stored that was not there before counts as written, whatever its type is, and one
// that a trigger keeps out does not.
func TestTriggersAndTypesInTheWay(t *testing.T) {
	t.Parallel()
	for of, start := range map[string]string{
		"integer": "5", "real": "33554432", "numeric(10,1)": "5", "numeric": "5", "double precision": "1e17",
	} {
		t.Run(of, func(t *testing.T) {
			t.Parallel()
			pool, from := written(t)
			for _, table := range []string{"genre_score", "topic_score", "cumulative_mbti_score"} {
				retype(t, pool, table, of)
				testenv.Execute(t, pool, `CREATE TRIGGER z BEFORE UPDATE ON `+table+
					` FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()`)
			}
			testenv.Execute(t, pool,
				`INSERT INTO genre_score VALUES (1, 1, `+start+`); INSERT INTO topic_score VALUES (1, 1, `+start+`);
				INSERT INTO cumulative_mbti_score VALUES (1, `+strings.Repeat(start+", ", 7)+start+`)`)
			ch := change{delta: delta(1, []scores.Sum{sum(1, 0.02)}, []scores.Sum{sum(1, 0.02)}), to: position(1, 0)}
			ch.delta.Typed, ch.delta.MBTI = true, [8]float64{0.02}
			require.NoError(t, writers["with care"](t, pool, from, ch))

			testenv.Execute(t, pool, `CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
				CREATE TRIGGER a BEFORE UPDATE ON genre_score FOR EACH ROW EXECUTE FUNCTION keep_out()`)
			ch.seen, ch.to = ch.to, position(2, 0)
			ch.delta.Genres = []scores.Sum{sum(1, 100)}
			assert.Equal(t, verdict.RowMissing, rejected(t, writers["with care"](t, pool, from, ch)).Code)
		})
	}
}

// A score that is not finite is not added to, nor copied: the transaction is refused, however it is made.
func TestScoresThatAreNotFinite(t *testing.T) {
	t.Parallel()
	pool, from := written(t)
	set := map[string]string{
		"a genre": `INSERT INTO genre_score VALUES ($1, 1, $2)`, "a topic": `INSERT INTO topic_score VALUES ($1, 1, $2)`,
		"a letter": `INSERT INTO cumulative_mbti_score (child_profile_id, t_score) VALUES ($1, $2)`,
	}
	profile := int64(0)
	for name, write := range writers {
		for what, statement := range set {
			for _, value := range []string{"Infinity", "-Infinity", "NaN"} {
				for _, typed := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/%s/%s/%v", name, what, value, typed), func(t *testing.T) {
						profile++
						testenv.Execute(t, pool, statement, profile, value)
						ch := change{delta: delta(profile, []scores.Sum{sum(1, 2)}, []scores.Sum{sum(1, 2)}), to: position(1, 0)}
						ch.delta.Typed, ch.delta.MBTI = typed, [8]float64{2}
						refused := rejected(t, write(t, pool, from, ch))
						if name == "with care" || what == "a letter" && name != "together" {
							assert.Equal(t, "22003", refused.Code)
							assert.Contains(t, refused.Message, "is not a finite number")
						} else { // and is sent again
							assert.Contains(t, []verdict.Verdict{verdict.Incomplete, verdict.Gone}, verdict.Of(refused))
						}
						assert.Zero(t, testenv.Query[int](
							t, pool, `SELECT count(*) FROM child_personality_history WHERE child_profile_id = $1`, profile))
					})
				}
			}
		}
	}
}
