package apply

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/events"
	"aggregator/internal/ledger"
	"aggregator/internal/scores"
	"aggregator/internal/testenv"
	"aggregator/internal/verdict"
)

// counted is what an applier has told of what it does.
type counted struct {
	sync.Mutex
	committed Tally
	conflicts int
}

// looked is a chunk of segments whose profiles, books and marks are looked up.
func looked(t *testing.T, pool *pgxpool.Pool, from ledger.Checkpoint, segments ...segment) (*Chunk, *counted) {
	t.Helper()
	told := &counted{}
	a := &Applier{
		Pool: pool, Source: from.Source, More: make(chan struct{}, 1),
		Catalogue: scores.NewCatalogue(pool, slog.New(slog.DiscardHandler),
			scores.CatalogueOptions{Books: 100, Profiles: 100, TTL: time.Minute}),
		Options: Options{Workers: 2, ProfilesPerTransaction: 1, Timeout: time.Minute, Preferred: scores.MeanOfPositive},
		Committed: func(n Tally) {
			told.Lock()
			defer told.Unlock()
			told.committed.plus(n)
		},
		Conflicts: func(n int) { told.conflicts += n },
		Took:      func(time.Duration, int) {}, Resolved: func(Tally) {},
	}
	batch := &events.Batch{}
	for _, seg := range segments {
		batch.Events = append(batch.Events, seg.events...)
		if batch.Last = seg.last(); batch.Entries < len(batch.Events) {
			batch.Entries = len(batch.Events)
		}
	}
	c, err := a.LookUp(t.Context(), from, batch, &pgx.Batch{})
	require.NoError(t, err)
	require.Len(t, c.due, len(segments))
	return c, told
}

// alone are refusals of segments each of which was a transaction.
func alone(code string, segments ...segment) (all []refused) {
	for _, seg := range segments {
		all = append(all, refused{unit{segments: []segment{seg}}, &pgconn.PgError{Code: code, Message: "refused"}})
	}
	return all
}

// What PostgreSQL is asked after a refusal is given up after the time-out, too.
func TestTriageIsBounded(t *testing.T) {
	t.Parallel()
	pool, from := catalogued(t)
	for code, table := range map[string]string{
		verdict.MarkMoved: "aggregator.mark", verdict.ProfileGone: "child_profile",
	} {
		chunk, _ := looked(t, pool, from, liked(5, 1, 2))
		chunk.applier.Options.Timeout = 200 * time.Millisecond
		other, err := pool.Begin(t.Context())
		require.NoError(t, err)
		testenv.Execute(t, other, "LOCK TABLE "+table)
		_, err = chunk.triage(t.Context(), alone(code, chunk.due[0]))
		require.ErrorIs(t, err, context.DeadlineExceeded, table)
		require.Equal(t, verdict.Retry, verdict.Of(err), table)
		require.NoError(t, other.Rollback(t.Context()))
	}
}

// A transaction of one profile is judged by what PostgreSQL says of it, and by what was tried before.
func TestTriage(t *testing.T) {
	t.Parallel()
	pool, from := catalogued(t)
	careful, found := attempts{careful: true}, attempts{found: true}
	for _, c := range []struct {
		name  string
		code  string
		tried attempts
		again *attempts // nil: not again
		data  string    // the message of the refusal; empty: it is not for the data
		fails string    // or why the attempt ends
	}{
		{"of the server", "40001", attempts{}, nil, "", "profile 5"},
		{"of the schema", "42P01", attempts{}, nil, "", "profile 5"},
		{"an unknown code", "ZZ999", careful, nil, "", "profile 5"},
		{"of the data", "23514", attempts{}, nil, "refused", ""},
		{"of the data, with care", "22003", careful, nil, "refused", ""},
		{"incomplete", verdict.RowMissing, attempts{}, &careful, "", ""},
		{"incomplete, and its profile was looked for", verdict.RowMissing, found, &attempts{true, true}, "", ""},
		{"incomplete in spite of care", verdict.RowMissing, careful, nil, "genre_score", ""},
		{"gone, and there", verdict.ProfileGone, attempts{}, &found, "", ""},
		{"gone, although it is there", verdict.ProfileGone, found, nil, "child_personality_history", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			chunk, told := looked(t, pool, from, liked(5, 1, 2))
			seg := chunk.due[0]
			seg.tried = c.tried
			next, err := chunk.triage(t.Context(), alone(c.code, seg))
			if c.fails != "" {
				require.ErrorContains(t, err, c.fails)
				assert.NotContains(t, []verdict.Verdict{verdict.Data, verdict.Incomplete, verdict.Gone}, verdict.Of(err))
				return
			}
			require.NoError(t, err)
			if c.data != "" {
				require.Len(t, next.data, 1)
				assert.Empty(t, next.again)
				assert.Contains(t, next.data[0].why.Message, c.data)
				assert.Equal(t, c.code, next.data[0].why.Code)
			} else {
				assert.Empty(t, next.data)
				require.Len(t, next.again, 1)
				assert.Equal(t, *c.again, next.again[0].tried)
				assert.Equal(t, []int64{1, 2}, at(next.again[0]))
			}
			assert.Zero(t, told.conflicts)
		})
	}
}

// What shared a transaction says nothing of each profile: all go on alone, unless the refusal ends the attempt.
func TestTriageOfASharedTransaction(t *testing.T) {
	t.Parallel()
	pool, from := catalogued(t)
	for _, code := range []string{
		"23514", verdict.MarkMoved, verdict.ProfileGone, verdict.RowMissing, "40001", "42501",
	} {
		t.Run(code, func(t *testing.T) {
			chunk, told := looked(t, pool, from, liked(5, 1), liked(2, 2), liked(9, 3), liked(1, 4))
			shared := refused{unit{segments: chunk.due[1:3]}, &pgconn.PgError{Code: code}}
			others := append(alone("23514", chunk.due[3]), alone(verdict.RowMissing, chunk.due[0])...)
			next, err := chunk.triage(t.Context(), append([]refused{shared}, others...))
			if code == "40001" || code == "42501" {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			require.Len(t, next.again, 3)
			assert.Equal(t, []int64{1, 2, 5}, profileIDs(next.again), "by rising profile")
			for _, seg := range next.again[1:] {
				assert.Zero(t, seg.tried, "nothing is known of it")
			}
			require.Len(t, next.data, 1)
			assert.Equal(t, []int64{9}, profileIDs(next.data[0].segments))
			assert.Zero(t, told.conflicts)
		})
	}
}

// Where another instance has moved the mark, only what it has not passed goes on. A mark that went back is an error:
// PostgreSQL has lost what was committed.
func TestTriageOfMovedMarks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		seen  events.Position
		mark  string // values; empty: none
		left  []int64
		fails bool
	}{
		{"by a part", position(0, 0), "2, 0", []int64{3}, false},
		{"between its events", position(0, 0), "2, 9", []int64{3}, false},
		{"by all", position(0, 0), "3, 0", nil, false},
		{"by more", position(0, 0), "8, 0", nil, false},
		{"not at all", position(0, 0), "", []int64{1, 2, 3}, false},
		{"from where it was seen", position(1, 0), "2, 0", []int64{3}, false},
		{"back", position(2, 0), "1, 0", nil, true},
		{"it is gone", position(2, 0), "", nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			pool, from := catalogued(t)
			chunk, told := looked(t, pool, from, liked(5, 1, 2, 3))
			if c.mark != "" {
				testenv.Execute(t, pool, `INSERT INTO aggregator.mark VALUES (5, 's', `+c.mark+`, 1)`)
			}
			seg := chunk.due[0].after(c.seen)
			next, err := chunk.triage(t.Context(), alone(verdict.MarkMoved, seg))
			assert.Equal(t, 1, told.conflicts)
			if c.fails {
				require.ErrorContains(t, err, "PostgreSQL lost commits")
				assert.Equal(t, verdict.Retry, verdict.Of(err))
				return
			}
			require.NoError(t, err)
			assert.Empty(t, next.data)
			if c.left == nil {
				assert.Empty(t, next.again)
				assert.Empty(t, chunk.due[0].events)
				return
			}
			require.Len(t, next.again, 1)
			assert.Equal(t, c.left, at(next.again[0]))
			assert.Equal(t, next.again[0], chunk.due[0], "it takes the place of what it was")
		})
	}
}

// After a reset no mark counts: the attempt ends.
func TestTriageAfterAReset(t *testing.T) {
	t.Parallel()
	pool, from := catalogued(t)
	chunk, _ := looked(t, pool, from, liked(5, 1))
	testenv.Execute(t, pool, `UPDATE aggregator.checkpoint SET epoch = epoch + 1`)
	_, err := chunk.triage(t.Context(), alone(verdict.MarkMoved, chunk.due...))
	require.ErrorIs(t, err, ledger.ErrReset)
}

// A profile that is gone when it is looked for is forgotten, so that its events become dead letters.
func TestTriageOfAProfileThatIsGone(t *testing.T) {
	t.Parallel()
	pool, from := catalogued(t)
	chunk, _ := looked(t, pool, from, liked(5, 1), liked(6, 2))
	testenv.Execute(t, pool, `DELETE FROM child_profile WHERE id = 5`)
	next, err := chunk.triage(t.Context(), alone(verdict.ProfileGone, chunk.due...))
	require.NoError(t, err)
	require.Len(t, next.again, 2)
	assert.Equal(t, []bool{false, true}, []bool{next.again[0].tried.found, next.again[1].tried.found})
	assert.Equal(t, Tally{Dead: 1}, chunk.known.tally(next.again[0]))
	assert.Equal(t, Tally{Applied: 1, Updated: 1}, chunk.known.tally(next.again[1]))
}

// A call ends with one segment: those before it are counted, it is judged, and those after it are sent alone.
func TestTriageOfACall(t *testing.T) {
	t.Parallel()
	pool, from := catalogued(t)
	chunk, told := looked(t, pool, from, liked(1, 1, 2), liked(2, 3), liked(3, 4), liked(4, 5))
	testenv.Execute(t, pool, `INSERT INTO aggregator.mark VALUES (1, 's', 2, 0, 2)`)
	chunk.mark(chunk.due, sentOff)
	call := chunk.known.units(chunk.due, false)
	require.Len(t, call, 1)
	next, err := chunk.triage(t.Context(), []refused{{call[0], &pgconn.PgError{Code: "23514", Message: "refused"}}})
	require.NoError(t, err)
	assert.Equal(t, Tally{Applied: 2, Updated: 1}, told.committed)
	assert.Equal(t, told.committed, chunk.Committed())
	assert.Equal(t, []stage{committed, unsent, unsent, unsent}, chunk.stages)
	require.Len(t, next.data, 1)
	assert.Equal(t, []int64{2}, profileIDs(next.data[0].segments))
	assert.Equal(t, []int64{3, 4}, profileIDs(next.again))

	// What went wrong came after all of it.
	testenv.Execute(t, pool, `INSERT INTO aggregator.mark VALUES (2, 's', 3, 0, 1), (3, 's', 4, 0, 1), (4, 's', 5, 0, 1)`)
	next, err = chunk.triage(t.Context(), []refused{{call[0], &pgconn.PgError{Code: "23514"}}})
	require.NoError(t, err)
	assert.Empty(t, next.again)
	assert.Empty(t, next.data)
	assert.Equal(t, []stage{committed, committed, committed, committed}, chunk.stages)
}

// An id that a sequence gave out twice is the fault of the deployment; another row that is there twice is not.
func TestTriageOfASequence(t *testing.T) {
	t.Parallel()
	pool, from := catalogued(t)
	for constraint, halts := range map[string]bool{"child_personality_history_pkey": true, "another": false} {
		chunk, _ := looked(t, pool, from, liked(5, 1))
		next, err := chunk.triage(t.Context(), []refused{{unit{segments: chunk.due}, &pgconn.PgError{
			Code: "23505", SchemaName: "public", TableName: "child_personality_history", ConstraintName: constraint,
		}}})
		if halts {
			require.ErrorContains(t, err, "column id")
			assert.Equal(t, verdict.Halt, verdict.Of(err))
			continue
		}
		require.NoError(t, err)
		assert.Len(t, next.data, 1)
	}
}

// Of a segment that is refused, only the events that are refused alone become dead letters, wherever they are, and
// a trial leaves nothing.
func TestIsolate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		books []int64 // of the events; the third is refused
		dead  []int64 // positions
		rows  int     // of history
	}{
		{"the only one", []int64{3}, []int64{1}, 0},
		{"the first", []int64{3, 1, 1, 1}, []int64{1}, 2},
		{"the last", []int64{1, 1, 1, 3}, []int64{4}, 2},
		{"in an odd number", []int64{1, 2, 3, 1, 2}, []int64{3}, 2},
		{"two of them, apart", []int64{1, 3, 1, 1, 1, 1, 3, 1}, []int64{2, 7}, 4},
		{"two of them, together", []int64{1, 1, 3, 3, 1, 1}, []int64{3, 4}, 3},
		{"all", []int64{3, 3, 3}, []int64{1, 2, 3}, 0},
		{"beside one of an unknown book", []int64{99, 3, 1}, []int64{1, 2}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			pool, from := catalogued(t)
			testenv.Execute(t, pool, `ALTER TABLE genre_score ADD CONSTRAINT no_third CHECK (genre_id <> 3)`)
			var ms []int64
			for i := range c.books {
				ms = append(ms, int64(i+1))
			}
			seg := liked(5, ms...)
			likes := 0
			for i := range seg.events {
				if seg.events[i].BookID = c.books[i]; c.books[i] != 3 && c.books[i] != 99 {
					likes++
				}
			}
			chunk, told := looked(t, pool, from, seg)
			refusal := refused{unit{segments: chunk.due}, &pgconn.PgError{Code: "23514", Message: "no third"}}
			trial, err := chunk.isolate(t.Context(), refusal, false)
			require.NoError(t, err)
			assert.Equal(t, Tally{Applied: likes, Dead: len(c.dead), Updated: c.rows}, trial.Tally)
			assert.Zero(t, testenv.Query[int](t, pool, `SELECT (SELECT count(*) FROM aggregator.mark)
				+ (SELECT count(*) FROM aggregator.dead_letter) + (SELECT count(*) FROM genre_score)`), "it was a trial")

			done, err := chunk.isolate(t.Context(), refusal, true)
			require.NoError(t, err)
			assert.Equal(t, trial, done)
			assert.Equal(t, c.dead, testenv.Query[[]int64](t, pool,
				`SELECT array_agg(position_ms ORDER BY position_ms) FROM aggregator.dead_letter`))
			assert.Equal(t, float64(2*likes), testenv.Query[float64](t, pool, `SELECT coalesce(sum(score), 0) FROM genre_score`))
			assert.Equal(t, c.rows, testenv.Query[int](t, pool, `SELECT count(*) FROM child_personality_history`))
			assert.Equal(t, likes, testenv.Query[int](t, pool, `SELECT applied FROM aggregator.mark`))
			assert.Equal(t, ms[len(ms)-1], testenv.Query[int64](t, pool, `SELECT position_ms FROM aggregator.mark`))
			assert.Zero(t, told.committed, "who calls it counts")

			_, err = chunk.isolate(t.Context(), refusal, true)
			assert.Equal(t, verdict.MarkMoved, rejected(t, err).Code, "a second time")
		})
	}
}

// Dead letters have the refusal of their own event; one that a deferred constraint makes is found as well.
func TestIsolateKeepsTheRefusals(t *testing.T) {
	t.Parallel()
	pool, from := catalogued(t)
	testenv.Execute(t, pool, `ALTER TABLE genre_score ADD CONSTRAINT no_third CHECK (genre_id <> 3);
		CREATE TABLE allowed (id bigint PRIMARY KEY); INSERT INTO allowed SELECT generate_series(1, 3);
		ALTER TABLE topic_score ADD CONSTRAINT is_allowed FOREIGN KEY (topic_id) REFERENCES allowed
			DEFERRABLE INITIALLY DEFERRED`)
	seg := liked(5, 1, 2, 3)
	seg.events[1].BookID, seg.events[2].BookID = 3, 4
	chunk, _ := looked(t, pool, from, seg)
	_, err := chunk.isolate(t.Context(), refused{unit{segments: chunk.due}, &pgconn.PgError{Code: "23514"}}, true)
	require.NoError(t, err)
	assert.Equal(t, "2 23514 data_error, 3 23503 data_error", testenv.Query[string](t, pool,
		`SELECT string_agg(concat_ws(' ',
		position_ms, sqlstate, reason), ', ' ORDER BY position_ms) FROM aggregator.dead_letter`))
}

// What is not for the data ends the isolation, and nothing of it stays.
func TestIsolateEnds(t *testing.T) {
	t.Parallel()
	pool, from := catalogued(t)
	testenv.Execute(t, pool, `CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN IF new.genre_id = 3 THEN RAISE SQLSTATE '53100'; END IF; RETURN new; END$$;
		CREATE TRIGGER fail BEFORE INSERT ON genre_score FOR EACH ROW EXECUTE FUNCTION fail()`)
	seg := liked(5, 1, 2)
	seg.events[1].BookID = 3
	chunk, _ := looked(t, pool, from, seg)
	_, err := chunk.isolate(t.Context(), refused{unit{segments: chunk.due}, &pgconn.PgError{Code: "23514"}}, true)
	require.ErrorContains(t, err, "profile 5")
	assert.Equal(t, verdict.Retry, verdict.Of(err))
	assert.Zero(t, testenv.Query[int](t, pool, `SELECT count(*) FROM aggregator.mark`))
}

// Events whose sum is not finite are applied as far as the sum is, and the others become dead letters, in PostgreSQL as
// in a preview.
func TestSumsThatAreNotFinite(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		weights []float64
		dead    []int64
		score   float64
	}{
		{"two too large together", []float64{1e308, 1e308, 1}, []int64{2}, 1e308},
		{"that are finite together", []float64{1e308, 1e308, -1e308}, nil, 1e308},
		{"small ones stay", []float64{1, 1.7e308, 1.7e308, 2}, []int64{3}, 1.7e308},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			pool, from := catalogued(t)
			seg := segment{profileID: 5}
			for i, weight := range c.weights {
				seg.events = append(seg.events, weighing(5, 1, int64(i+1), weight))
			}
			chunk, told := looked(t, pool, from, seg, liked(6, 9), liked(7, 10))
			for delta, folded := range chunk.Folded(func(id int64) scores.Delta { return scores.Delta{ProfileID: id} }) {
				if delta.ProfileID != 5 {
					continue
				}
				require.Len(t, folded.Dead, len(c.dead))
				for i, ms := range c.dead {
					assert.Equal(t, ms, folded.Dead[i].Position.Ms)
				}
				assert.Equal(t, c.score, delta.Genres[0].Value)
			}
			census := chunk.Census()
			require.NoError(t, chunk.Apply(t.Context(), &census, func(Census) error { return nil }))
			assert.Equal(t, c.dead, testenv.Query[[]int64](t, pool, `SELECT array_agg(position_ms) FROM aggregator.dead_letter`))
			assert.Equal(t, c.score, testenv.Query[float64](t, pool, `SELECT score FROM genre_score WHERE child_profile_id = 5`))
			assert.Equal(t, len(c.weights)-len(c.dead)+2, told.committed.Applied)
			assert.Equal(t, len(c.dead), told.committed.Dead)
		})
	}
}

// When the dead letters become too many, none is written.
func TestTooManyRefusals(t *testing.T) {
	t.Parallel()
	pool, from := catalogued(t)
	testenv.Execute(t, pool, `ALTER TABLE genre_score ADD CONSTRAINT no_third CHECK (genre_id <> 3)`)
	seg := liked(5, 1, 2, 3)
	seg.events[1].BookID, seg.events[2].BookID = 3, 3
	chunk, _ := looked(t, pool, from, seg, liked(6, 4))
	tooMany := errors.New("too many")
	census := chunk.Census()
	err := chunk.Apply(t.Context(), &census, func(n Census) error {
		assert.Equal(t, map[events.Reason]int{events.DataError: 2}, n.Dead)
		return tooMany
	})
	require.ErrorIs(t, err, tooMany)
	assert.Zero(t, testenv.Query[int](t, pool, `SELECT count(*) FROM aggregator.dead_letter`))
	assert.Equal(t, []int64{6}, testenv.Query[[]int64](t, pool, `SELECT array_agg(child_profile_id) FROM aggregator.mark`))
}
