package apply

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/events"
	"aggregator/internal/history"
	"aggregator/internal/ledger"
	"aggregator/internal/postgres"
	"aggregator/internal/scores"
	"aggregator/internal/testenv"
	"aggregator/internal/verdict"
)

// writer is one of the ways in which changes are written.
type writer func(t *testing.T, pool *pgxpool.Pool, from ledger.Checkpoint, all ...change) error

var writers = writersBy(scores.MeanOfPositive)

// writersBy are the ways, by a rule for favorites.
func writersBy(rule scores.Preference) map[string]writer {
	return map[string]writer{
		"one by one": func(t *testing.T, pool *pgxpool.Pool, from ledger.Checkpoint, all ...change) error {
			for _, ch := range all {
				batch := &pgx.Batch{}
				queueTogether(batch, from, rulesOf(t, pool, rule), []change{ch})
				if err := pool.SendBatch(t.Context(), batch).Close(); err != nil {
					return err
				}
			}
			return nil
		},
		"each": func(t *testing.T, pool *pgxpool.Pool, from ledger.Checkpoint, all ...change) error {
			batch := &pgx.Batch{}
			queueEach(batch, from, rulesOf(t, pool, rule), all)
			return pool.SendBatch(t.Context(), batch).Close()
		},
		"together": func(t *testing.T, pool *pgxpool.Pool, from ledger.Checkpoint, all ...change) error {
			batch := &pgx.Batch{}
			batch.Queue(applyTogether, columns(all).arguments(from, rulesOf(t, pool, rule))...)
			return pool.SendBatch(t.Context(), batch).Close()
		},
		"with care": func(t *testing.T, pool *pgxpool.Pool, from ledger.Checkpoint, all ...change) error {
			for _, ch := range all {
				ch.careful = true
				batch := &pgx.Batch{}
				queueOne(batch, from, rulesOf(t, pool, rule), ch)
				if err := pool.SendBatch(t.Context(), batch).Close(); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func rulesOf(t *testing.T, pool *pgxpool.Pool, rule scores.Preference) rules {
	t.Helper()
	types, err := history.ReadTypes(t.Context(), pool)
	require.NoError(t, err)
	return rules{types: types, preferred: rule}
}

// written is a database with a source that begins.
func written(t *testing.T) (*pgxpool.Pool, ledger.Checkpoint) {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: testenv.Database(t), MaxConns: 4})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	testenv.Execute(t, pool, `INSERT INTO genre (id, name) SELECT i, 'g' || i FROM generate_series(1, 5) i`)
	testenv.Execute(t, pool, `INSERT INTO topic (id, name) SELECT i, 't' || i FROM generate_series(1, 5) i`)
	testenv.Execute(t, pool, `INSERT INTO child_profile (id, name) SELECT i, 'c' FROM generate_series(1, 2500) i`)
	from, err := ledger.Create(t.Context(), pool, "s", events.Position{}, 0)
	require.NoError(t, err)
	return pool, from
}

func rejected(t *testing.T, err error) *pgconn.PgError {
	t.Helper()
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	return pg
}

func position(ms, seq int64) events.Position { return events.Position{Ms: ms, Seq: seq} }

func delta(profile int64, genres, topics []scores.Sum) scores.Delta {
	return scores.Delta{ProfileID: profile, Genres: genres, Topics: topics, Events: 1}
}

func sum(id int64, value float64) scores.Sum { return scores.Sum{ID: id, Value: value} }

// However changes are written, they come to the same scores, marks and history, whatever
// was there before.
func TestAllWritersAgree(t *testing.T) {
	t.Parallel()
	pool, from := written(t)
	rng := rand.New(rand.NewPCG(3, 4))
	const profiles = 40
	first := map[string]int64{"one by one": 100, "each": 200, "together": 300, "with care": 400}
	marks := map[int64]events.Position{}
	for round := range int64(4) {
		all := map[string][]change{}
		for i := range int64(profiles) {
			sums := func(table string) (list []scores.Sum) {
				for id := range int64(5) {
					if rng.IntN(2) == 0 {
						value := float64(rng.IntN(9)-4) / 2
						for _, at := range first {
							testenv.Execute(t, pool, `INSERT INTO `+table+` VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, at+i, id+1, value)
						}
					}
					if rng.IntN(2) == 0 {
						list = append(list, sum(id+1, float64(rng.IntN(9)-4)/2))
					}
				}
				return list
			}
			d := delta(0, sums("genre_score"), sums("topic_score"))
			if d.Typed = rng.IntN(3) > 0; d.Typed {
				for letter := range d.MBTI {
					d.MBTI[letter] = float64(rng.IntN(9) - 4)
				}
			}
			if rng.IntN(5) == 0 {
				d = scores.Delta{} // dead letters only
			}
			for name, at := range first {
				d.ProfileID = at + i
				to := position(round+1, i)
				all[name] = append(all[name], change{delta: d, seen: marks[at+i], to: to, applied: int(i)})
				marks[at+i] = to
			}
		}
		for name, write := range writers {
			require.NoError(t, write(t, pool, from, all[name]...), name)
		}
	}
	for name, text := range map[string]string{
		"genres": `SELECT child_profile_id - $1, genre_id, score FROM genre_score`,
		"topics": `SELECT child_profile_id - $1, topic_id, score FROM topic_score`,
		"letters": `SELECT child_profile_id - $1, i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score ` +
			`FROM cumulative_mbti_score`,
		"marks": `SELECT child_profile_id - $1, source, position_ms, position_seq, applied FROM aggregator.mark`,
		"history": `SELECT child_profile_id - $1, mbti_id, i_score, e_score, s_score, n_score, t_score, f_score, j_score,
			p_score,
			array(SELECT genre_id FROM favorite_genre f WHERE f.child_profile_id = h.child_profile_id AND f.history_id = h.id
				ORDER BY 1),
			array(SELECT topic_id FROM favorite_topic f WHERE f.child_profile_id = h.child_profile_id AND f.history_id = h.id
				ORDER BY 1)
			FROM child_personality_history h`,
	} {
		read := func(first int64) []string {
			rows, err := pool.Query(t.Context(),
				`SELECT r::text FROM (`+text+` WHERE child_profile_id BETWEEN $1 AND $1 + 99) r ORDER BY 1`, first)
			require.NoError(t, err)
			list, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			return list
		}
		want := read(first["one by one"])
		assert.NotEmpty(t, want, name)
		for way, at := range first {
			assert.Equal(t, want, read(at), "%s, %s", name, way)
		}
	}
}

// Marks move by compare-and-set, and what is refused leaves nothing; of a call with a
// transaction a profile, what came before stays.
func TestMarksMoveByCompareAndSet(t *testing.T) {
	t.Parallel()
	for name, write := range writers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, from := written(t)
			ch := func(profile int64, seen, to events.Position, applied int) change {
				return change{delta: delta(profile, []scores.Sum{sum(1, 1)}, nil), seen: seen, to: to, applied: applied}
			}
			none := events.Position{}
			first := []change{ch(1, none, position(5, 1), 3), ch(2, none, position(5, 0), 1)}
			require.NoError(t, write(t, pool, from, first...))
			assert.Equal(t, verdict.MarkMoved, rejected(t, write(t, pool, from, first...)).Code, "a second time")
			assert.Equal(t, verdict.MarkMoved, rejected(t, write(t, pool, from, ch(3, position(1, 1), position(6, 0), 1))).Code,
				"a mark that is gone is not made again")
			refused := rejected(t, write(t, pool, from,
				ch(1, position(5, 1), position(5, 2), 4), ch(2, position(4, 0), position(9, 9), 1), ch(3, none, position(9, 9), 1)))
			assert.Equal(t, verdict.MarkMoved, refused.Code, "one of three")
			stale := from
			stale.Epoch++
			assert.Equal(t, verdict.MarkMoved, rejected(t, write(t, pool, stale, ch(4, none, position(1, 0), 1))).Code,
				"a reset since")

			want := map[int64]events.Position{1: position(5, 2), 2: position(5, 0)}
			if name == "together" {
				want[1] = position(5, 1)
			} else {
				assert.Equal(t, "2", refused.Detail)
			}
			marks, err := ledger.Marks(t.Context(), pool, from, []int64{1, 2, 3, 4})
			require.NoError(t, err)
			assert.Equal(t, want, marks)
			moves := len(want)
			if name != "together" {
				moves++
			}
			assert.Equal(t, float64(moves), testenv.Query[float64](t, pool, `SELECT sum(score) FROM genre_score`))
			assert.Equal(t, moves, testenv.Query[int](t, pool, `SELECT count(*) FROM child_personality_history`))
		})
	}
}

// However many rows there are, each is added once.
func TestSizes(t *testing.T) {
	t.Parallel()
	for name, write := range writers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, from := written(t)
			const many = 600
			for _, n := range []int{1, 2, 3, many} {
				testenv.Execute(t, pool, `TRUNCATE genre_score, topic_score, cumulative_mbti_score, aggregator.mark`)
				seen := events.Position{}
				for round := range int64(2) {
					var all []change
					to := position(round+1, 0)
					for i := range n {
						ch := change{delta: delta(int64(i+1), nil, nil), seen: seen, to: to}
						for k := range i%3 + 1 {
							ch.delta.Genres = append(ch.delta.Genres, sum(int64(k+1), float64(i)))
						}
						if i%3 == 0 {
							ch.delta.Typed, ch.delta.MBTI[7] = true, 1
						}
						if i == 1 {
							ch.delta.Topics = manySums(many)
						}
						all = append(all, ch)
					}
					require.NoError(t, write(t, pool, from, all...))
					seen = to
				}
				assert.Zero(t, testenv.Query[int](t, pool,
					`SELECT count(*) FROM genre_score WHERE score <> 2 * (child_profile_id - 1)`))
				assert.Equal(t, (n+2)/3, testenv.Query[int](t, pool,
					`SELECT count(*) FROM cumulative_mbti_score WHERE p_score = 2`))
				if n > 1 {
					assert.Equal(t, many, testenv.Query[int](t, pool, `SELECT count(*) FROM topic_score WHERE score = 2 * topic_id`))
				}
			}
		})
	}
}

// The functions look for ids by binary search. If ids are not in rising order, a sum is refused, but never added
// to another id, or to another profile.
func TestIDsOutOfOrder(t *testing.T) {
	t.Parallel()
	for name, write := range writers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, from := written(t)
			testenv.Execute(t, pool,
				`INSERT INTO genre_score SELECT p, i, 10 FROM generate_series(1, 2) p, generate_series(1, 5) i;
				INSERT INTO topic_score SELECT * FROM genre_score`)
			for _, order := range [][]int64{{5, 4, 3, 2, 1}, {2, 1, 3, 5, 4}, {4, 5, 1, 2, 3}, {1, 3, 2, 4, 5}} {
				var sums []scores.Sum
				for _, id := range order {
					sums = append(sums, sum(id, float64(id)))
				}
				for which, d := range map[string]scores.Delta{"genre": delta(1, sums, nil), "topic": delta(1, nil, sums)} {
					before := testenv.Query[float64](t, pool, `SELECT sum(score) FROM `+which+`_score`)
					to := position(testenv.Query[int64](t, pool, `SELECT coalesce(max(position_ms), 0) + 1 FROM aggregator.mark`), 0)
					marks, err := ledger.Marks(t.Context(), pool, from, []int64{1})
					require.NoError(t, err)
					added := 15.0
					if err := write(t, pool, from, change{delta: d, seen: marks[1], to: to}); err != nil {
						assert.Equal(t, verdict.RowMissing, rejected(t, err).Code)
						added = 0
					}
					assert.Equal(t, before+added, testenv.Query[float64](t, pool, `SELECT sum(score) FROM `+which+`_score`))
					assert.Zero(t, testenv.Query[int](t, pool,
						`SELECT count(*) FROM `+which+`_score WHERE (score - 10)::bigint % `+which+`_id <> 0`), order)
				}
			}
			two := []change{
				{delta: delta(4, []scores.Sum{sum(1, 4)}, nil), to: position(1, 0)},
				{delta: delta(3, []scores.Sum{sum(1, 3)}, nil), to: position(1, 0)},
			}
			for i := range two {
				two[i].delta.Typed, two[i].delta.MBTI[0] = true, float64(two[i].delta.ProfileID)
			}
			if err := write(t, pool, from, two...); name == "together" {
				assert.Equal(t, "55000", rejected(t, err).Code)
			} else {
				require.NoError(t, err)
			}
			assert.Zero(t, testenv.Query[int](t, pool,
				`SELECT count(*) FROM cumulative_mbti_score WHERE i_score <> child_profile_id`))
		})
	}
}

func manySums(n int) (sums []scores.Sum) {
	for id := range int64(n) {
		sums = append(sums, sum(id+1, float64(id+1)))
	}
	return sums
}

// The application may insert a score, or delete one, while we are about to add to it: it is
// added to, or refused for another try with care.
func TestApplicationInsertsMeanwhile(t *testing.T) {
	t.Parallel()
	for name, write := range writers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, from := written(t)
			testenv.Execute(t, pool, `INSERT INTO genre_score VALUES (1, 1, 5), (1, 2, 5)`)
			other, err := pool.Begin(t.Context())
			require.NoError(t, err)
			for _, sql := range []string{
				`DELETE FROM genre_score WHERE genre_id = 2`, `INSERT INTO genre_score VALUES (1, 3, 100)`,
			} {
				_, err = other.Exec(t.Context(), sql)
				require.NoError(t, err)
			}
			ch := change{delta: delta(1, []scores.Sum{sum(1, 2), sum(2, 2), sum(3, 2)}, nil), to: position(1, 0)}
			done := make(chan error, 1)
			go func() { done <- write(t, pool, from, ch) }()
			require.Eventually(t, func() bool {
				return testenv.Query[int](t, pool,
					`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 1
			}, 10*time.Second, time.Millisecond)
			require.NoError(t, other.Commit(t.Context()))
			if err := <-done; name != "with care" {
				assert.Equal(t, verdict.RowMissing, rejected(t, err).Code)
				require.NoError(t, writers["with care"](t, pool, from, ch))
			} else {
				require.NoError(t, err)
			}
			assert.Equal(t, "7 2 102",
				testenv.Query[string](t, pool, `SELECT string_agg(score::text, ' ' ORDER BY genre_id) FROM genre_score`))
			assert.Equal(t, []int64{3}, testenv.Query[[]int64](t, pool, `SELECT array_agg(genre_id) FROM favorite_genre`))
		})
	}
}

// A trigger that keeps a row as it is, for nothing would change, does not come in the way; one
// that keeps a row out is told from it.
func TestTriggersInTheWay(t *testing.T) {
	t.Parallel()
	for name, write := range writers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, from := written(t)
			testenv.Execute(t, pool, `INSERT INTO genre_score VALUES (1, 1, 5), (1, 2, 5); INSERT INTO cumulative_mbti_score `+
				`(child_profile_id) VALUES (1)`)
			for _, table := range []string{"genre_score", "topic_score", "cumulative_mbti_score"} {
				testenv.Execute(t, pool, `CREATE TRIGGER z BEFORE UPDATE ON `+table+
					` FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()`)
			}
			ch := change{
				delta: delta(1, []scores.Sum{sum(1, 0), sum(2, 3), sum(3, 0)}, []scores.Sum{sum(1, 1)}), to: position(1, 0),
			}
			ch.delta.Typed = true
			if err := write(t, pool, from, ch); name != "with care" {
				assert.Equal(t, verdict.RowMissing, rejected(t, err).Code)
				require.NoError(t, writers["with care"](t, pool, from, ch))
			} else {
				require.NoError(t, err)
			}
			assert.Equal(t, "5 8 0", testenv.Query[string](
				t, pool, `SELECT string_agg(score::text, ' ' ORDER BY genre_id) FROM genre_score`))

			testenv.Execute(t, pool, `CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
				CREATE TRIGGER a BEFORE INSERT OR UPDATE ON topic_score FOR EACH ROW EXECUTE FUNCTION keep_out()`)
			ch.seen, ch.to = ch.to, position(2, 0)
			assert.Equal(t, verdict.RowMissing, rejected(t, write(t, pool, from, ch)).Code)
			assert.Equal(t, verdict.RowMissing, rejected(t, writers["with care"](t, pool, from, ch)).Code)
		})
	}
}

// Of two transactions on a profile the one that comes second writes the later row, also if
// it began first.
func TestRowsAreInTheOrderOfTheirStates(t *testing.T) {
	t.Parallel()
	pool, from := written(t)
	early, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = early.Exec(t.Context(), `SELECT now()`)
	require.NoError(t, err)
	ch := change{delta: delta(1, nil, nil), to: position(1, 0)}
	require.NoError(t, writers["each"](t, pool, from, ch))
	var batch pgx.Batch
	ch.seen, ch.to = ch.to, position(2, 0)
	queueTogether(&batch, from, rulesOf(t, pool, scores.MeanOfPositive), []change{ch})
	require.NoError(t, early.SendBatch(t.Context(), &batch).Close())
	require.NoError(t, early.Commit(t.Context()))
	assert.True(t, testenv.Query[bool](t, pool,
		`SELECT (array_agg(created_at ORDER BY id))[1] < (array_agg(created_at ORDER BY id))[2] FROM `+
			`child_personality_history`))
}

func latest(t *testing.T, pool *pgxpool.Pool, profile int64) history.Snapshot {
	t.Helper()
	timeline, err := history.Timeline(t.Context(), pool, profile, history.Selection{Limit: 1})
	require.NoError(t, err)
	require.Len(t, timeline, 1)
	return timeline[0]
}

func TestType(t *testing.T) {
	t.Parallel()
	pool, from := written(t)
	cases := []struct {
		name   string
		scores []any // I E S N T F J P
		want   string
	}{
		{"the first letter wins a tie, N before S", []any{0, 0, 0, 0, 0, 0, 0, 0}, "INTJ"},
		{"each second letter", []any{0, 1, 1, 0, 0, 1, 0, 1}, "ESFP"},
		{"below nothing", []any{-4, -2, -2, -4, -4, -2, -4, -2}, "ESFP"},
		{"mixed", []any{3, 2, 5, 1, 2, 2, -1, 0}, "ISTP"},
		{"no row counts as nothing scored", nil, "INTJ"},
	}
	profile := int64(0)
	for name, write := range writers {
		for _, c := range cases {
			for _, typed := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%s/%v", name, c.name, typed), func(t *testing.T) {
					profile++
					if c.scores != nil {
						testenv.Execute(t, pool, `INSERT INTO cumulative_mbti_score VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
							append([]any{profile}, c.scores...)...)
					}
					ch := change{delta: delta(profile, nil, nil), to: position(1, 0)}
					ch.delta.Typed = typed
					require.NoError(t, write(t, pool, from, ch))
					assert.Equal(t, c.want, latest(t, pool, profile).Type)
				})
			}
		}
	}
}

func TestPreferred(t *testing.T) {
	t.Parallel()
	pool, from := written(t)
	for _, column := range []string{"genre_score", "topic_score"} {
		testenv.Execute(t, pool, `ALTER TABLE `+column+` ALTER score DROP NOT NULL`)
	}
	null, infinite, nan := math.SmallestNonzeroFloat64, math.Inf(1), math.NaN()
	cases := []struct {
		name      string
		scores    []float64 // of genres and topics 1, 2, ...
		want      []string
		aboveMean []string // by the other rule
	}{
		{"no rows", nil, []string{}, []string{}},
		{"nothing positive", []float64{0, -2, -4}, []string{}, []string{}},
		{"one, and zero", []float64{0.5, 0, -9}, []string{"1"}, []string{"1"}},
		{"one alone", []float64{0.5, -9}, []string{"1"}, []string{}},
		{"by the mean", []float64{1, 2, 3, -100, 0}, []string{"2", "3"}, []string{"2", "3"}},
		{"zero lowers the mean", []float64{4, 6, 0, 0}, []string{"2"}, []string{"1", "2"}},
		{"the mean itself", []float64{1, 2, 3}, []string{"2", "3"}, []string{"3"}},
		{"all equal", []float64{2, 2, 2}, []string{"1", "2", "3"}, []string{}},
		{"all equal, and their mean is greater", []float64{0.1, 0.1, 0.1}, []string{"1", "2", "3"}, []string{}},
		{
			"all equal, and their mean is smaller",
			[]float64{0.15, 0.15, 0.15, 0.15, 0.15},
			[]string{"1", "2", "3", "4", "5"},
			[]string{},
		},
		{"all zero", []float64{0, 0}, []string{}, []string{}},
		{"one far ahead", []float64{1, 1, 1, 1, 1000}, []string{"5"}, []string{"5"}},
		{"NULL is no score", []float64{2, null, 4}, []string{"3"}, []string{"3"}},
		{"nothing but NULL", []float64{null, null}, []string{}, []string{}},
		{"what is not finite is none", []float64{2, infinite, 4, nan, -infinite}, []string{"3"}, []string{"3"}},
	}
	profile := int64(0)
	for _, rule := range scores.Preferences {
		for name, write := range writersBy(rule) {
			for _, c := range cases {
				t.Run(fmt.Sprintf("%s/%s/%s", rule, name, c.name), func(t *testing.T) {
					profile++
					for id, score := range c.scores {
						testenv.Execute(t, pool,
							`INSERT INTO genre_score VALUES ($1, $2, nullif($3::float8, $4))`, profile, id+1, score, null)
						testenv.Execute(t, pool,
							`INSERT INTO topic_score VALUES ($1, $2, nullif($3::float8, $4))`, profile, id+1, score, null)
					}
					require.NoError(t, write(t, pool, from, change{delta: delta(profile, nil, nil), to: position(1, 0)}))
					want := c.want
					if rule.AboveMean() {
						want = c.aboveMean
					}
					genres, topics := []string{}, []string{}
					for _, id := range want {
						genres, topics = append(genres, "g"+id), append(topics, "t"+id)
					}
					got := latest(t, pool, profile)
					assert.Equal(t, genres, got.Genres)
					assert.Equal(t, topics, got.Topics)
				})
			}
		}
	}
}

// A profile that is gone is refused by name, and leaves nothing.
func TestProfileGone(t *testing.T) {
	t.Parallel()
	for name, write := range writers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, from := written(t)
			refused := rejected(t, write(t, pool, from,
				change{delta: delta(3, nil, nil), to: position(1, 0)}, change{delta: delta(9977, nil, nil), to: position(1, 0)}))
			assert.Equal(t, verdict.ProfileGone, refused.Code)
			if name == "together" {
				assert.Zero(t, testenv.Query[int](t, pool, `SELECT count(*) FROM aggregator.mark`))
			} else {
				assert.Equal(t, "9977", refused.Detail)
				assert.Equal(t, int64(3), testenv.Query[int64](t, pool, `SELECT child_profile_id FROM aggregator.mark`))
			}
		})
	}
}
