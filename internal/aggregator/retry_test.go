package aggregator_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/aggregator"
	"aggregator/internal/apply"
	"aggregator/internal/deadletter"
	"aggregator/internal/events"
	"aggregator/internal/postgres"
	"aggregator/internal/scores"
	"aggregator/internal/testenv"
)

// later is a book that is not there at first.
var later = book{genre: 2, topics: []int64{1, 4}, mbti: "ENFJ"}

const laterID = 13

func (f *fixture) retrier() *apply.Retrier {
	f.t.Helper()
	catalogue := scores.NewCatalogue(
		f.daemon.pool, f.log(), scores.CatalogueOptions{Books: 1000, Profiles: 1000, TTL: time.Minute})
	return &apply.Retrier{
		Pool: f.daemon.pool, Catalogue: catalogue, Decoder: events.NewDecoder(f.source.Weights),
		Timeout: time.Minute,
	}
}

// letters reads the dead letters that the filter chooses.
func (f *fixture) letters(filter deadletter.Filter) []deadletter.Letter {
	f.t.Helper()
	var all []deadletter.Letter
	for page, err := range deadletter.Pages(f.ctx, f.daemon.pool, filter, 7) {
		require.NoError(f.t, err)
		all = append(all, page...)
	}
	return all
}

func (f *fixture) retry(letters []deadletter.Letter) apply.Retried {
	f.t.Helper()
	done, err := f.retrier().Retry(f.ctx, letters)
	require.NoError(f.t, err)
	return done
}

func (f *fixture) count(sql string, args ...any) (n int64) {
	f.t.Helper()
	require.NoError(f.t, f.pool.QueryRow(f.ctx, sql, args...).Scan(&n))
	return n
}

const sumOfMarks = `SELECT coalesce(sum(applied), 0)::bigint FROM aggregator.mark`

// A letter is applied once its profile and book are there, and not before.
func TestRetry(t *testing.T) {
	for name, durable := range map[string]bool{"durable": true, "asynchronous": false} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, stream)
			f.push("31:1:LIKE", "31:1:LIKE", "1:13:DISLIKE", "1:1:LIKE", "31:13:LIKE", "2:13:LIKE", "2:1:EAT", "junk\x00\xff")
			f.drain()
			marks := f.count(sumOfMarks)
			letters := f.letters(deadletter.Filter{})
			require.Len(t, letters, 7)

			assert.Equal(t, map[string]int64{
				"there is no such child profile": 3, "there is no such book": 2, `action is "EAT"`: 1,
				"the event is not valid UTF-8": 1,
			}, f.retry(letters).Failed)
			for _, l := range f.letters(deadletter.Filter{}) {
				assert.Equal(t, 1, l.Attempts)
				assert.NotNil(t, l.LastAttempt)
				assert.NotEmpty(t, *l.LastError)
				assert.Nil(t, l.Settled)
			}

			f.addProfile()
			f.addBook(laterID, later)
			f.source.Weights = map[string]float64{"LIKE": 2, "DISLIKE": -2, "EAT": 5}
			retrier := f.retrier()
			retrier.Durable = durable
			done, err := retrier.Retry(f.ctx, letters)
			require.NoError(t, err)
			assert.Equal(t, 6, done.Applied)
			assert.EqualValues(t, 1, done.StillDead())
			done = f.retry(letters)
			assert.Equal(t, 6, done.Before, "a second time")
			assert.Zero(t, done.Applied)

			assert.Equal(t, marks, f.count(sumOfMarks), "marks count what chunks applied")
			assert.EqualValues(t, 5, f.count(`SELECT count(*) FROM child_personality_history WHERE child_profile_id IN (2, 31)`),
				"a row for each letter")
			for _, l := range f.letters(deadletter.Filter{Settled: true}) {
				if l.Reason == events.InvalidUTF8 {
					assert.Equal(t, 3, l.Attempts)
					continue
				}
				assert.Equal(t, "applied", l.SettledAs)
				assert.Equal(t, 2, l.Attempts)
				assert.Nil(t, l.LastError)
				assert.NotNil(t, l.ProfileID, "also of what was no event before")
			}
			f.verify()
		})
	}
}

// PostgreSQL still refuses the event: the letter stays, with the latest error.
func TestRetryDataError(t *testing.T) {
	f := newFixture(t, stream)
	f.exec(`ALTER TABLE genre_score ADD CONSTRAINT most CHECK (score <= 1)`)
	f.push("1:1:LIKE", "2:12:LIKE")
	f.drain()
	letters := f.letters(deadletter.Filter{Reasons: []events.Reason{events.DataError}})
	require.Len(t, letters, 1)
	assert.EqualValues(t, 1, f.retry(letters).StillDead())
	stuck := f.letters(deadletter.Filter{})
	assert.Contains(t, *stuck[0].LastError, "(SQLSTATE 23514)")
	f.exec(`ALTER TABLE genre_score DROP CONSTRAINT most`)
	assert.Equal(t, 1, f.retry(stuck).Applied)
	f.verify()
}

// A profile that is deleted between the look-up and the transaction.
func TestRetryProfileDeletedMeanwhile(t *testing.T) {
	f := newFixture(t, stream)
	f.push("1:13:LIKE", "2:13:LIKE")
	f.drain()
	letters := f.letters(deadletter.Filter{})
	f.addBook(laterID, later)
	retrier := f.retrier()
	_, err := retrier.Catalogue.Profiles(f.ctx, []int64{1}) // remembers it
	require.NoError(t, err)
	f.exec(`DELETE FROM child_profile WHERE id = 1`)
	done, err := retrier.Retry(f.ctx, letters)
	require.NoError(t, err)
	assert.Equal(t, apply.Retried{Applied: 1, Failed: map[string]int64{"there is no such child profile": 1}}, done)
	assert.Zero(t, f.count(`SELECT count(*) FROM genre_score WHERE child_profile_id = 1 AND score <> 0`))
}

func TestDrop(t *testing.T) {
	f := newFixture(t, stream)
	f.push("1:13:LIKE", "2:13:LIKE", "3:1:LIKE")
	f.drain()
	letters := f.letters(deadletter.Filter{})
	slices.SortFunc(letters, func(a, b deadletter.Letter) int { return a.Position.Compare(b.Position) })
	n, err := deadletter.Drop(f.ctx, f.daemon.pool, []deadletter.ID{
		letters[0].ID(), {Source: "another", Position: letters[0].Position},
	})
	require.NoError(t, err)
	assert.EqualValues(t, 1, n)
	n, err = deadletter.Drop(f.ctx, f.daemon.pool, []deadletter.ID{letters[0].ID()})
	require.NoError(t, err)
	assert.Zero(t, n, "a second time")
	f.verify() // it is a dead letter still
	f.addBook(laterID, later)
	assert.Equal(t, apply.Retried{Applied: 1, Before: 1}, f.retry(letters))
	f.pushed = f.pushed[1:]
	assert.Equal(t, f.expected().genres, f.found().genres)
}

// Letters of profiles that have no mark, as what was no event leaves none, must be applied
// beside the first chunk that has events of theirs, and after a retry a chunk must go on.
func TestRetryBeforeTheFirstMark(t *testing.T) {
	f := newFixture(t, stream)
	f.push("1:1:EAT", "1:2:EAT")
	f.drain()
	f.source.Weights = map[string]float64{"LIKE": 2, "DISLIKE": -2, "EAT": 5}
	assert.Equal(t, 2, f.retry(f.letters(deadletter.Filter{})).Applied)
	assert.Zero(t, f.count(sumOfMarks))
	f.push("1:1:LIKE", "1:3:EAT")
	assert.EqualValues(t, 2, f.drain().Applied)
	f.verify()
}

// Retries at once, of the same letters, beside daemons that work on the same profiles:
// each letter counts once, and the latest history says what stands in the end.
func TestRetriesAtOnce(t *testing.T) {
	testenv.Long(t)
	f := newFixture(t, stream)
	f.options.ChunkMaxEvents, f.options.Workers = 25, 2
	r := rand.New(rand.NewPCG(7, 7))
	var texts []string
	for i := range 240 {
		texts = append(texts, fmt.Sprintf("%d:%d:%s", 1+r.IntN(4), laterID, pick(i%3 == 0, "DISLIKE", "LIKE")))
		texts = append(texts, fmt.Sprintf("%d:%d:EAT", 5+r.IntN(4), 1+r.IntN(12))) // of profiles without a mark
	}
	f.push(texts...)
	f.drain()
	letters := f.letters(deadletter.Filter{})
	require.Len(t, letters, 480)

	f.addBook(laterID, later)
	f.source.Weights = map[string]float64{"LIKE": 2, "DISLIKE": -2, "EAT": 5}
	texts = nil
	for range 600 {
		texts = append(texts, fmt.Sprintf("%d:%d:LIKE", 1+r.IntN(8), 1+r.IntN(13)))
	}
	f.push(texts...)
	ended := make(chan error)
	for range 2 {
		a := f.new()
		go func() {
			_, err := a.Drain(f.ctx, aggregator.Limits{})
			ended <- err
		}()
	}
	applied := make(chan int, 3)
	for i := range 3 {
		mine := slices.Clone(letters)
		if i == 1 {
			slices.Reverse(mine)
		}
		retrier := f.retrier()
		retrier.Durable = i == 2
		go func() {
			done, err := retrier.Retry(f.ctx, mine)
			applied <- done.Applied
			ended <- err
		}()
	}
	for range 5 {
		require.NoError(t, <-ended)
	}
	assert.Equal(t, 480, <-applied+<-applied+<-applied)
	f.drain()
	f.verify()
}

// Connections are cut at any instant: a retry that failed is repeated, and what it had
// applied counts once.
func TestRetryThroughLostConnections(t *testing.T) {
	f := newFixture(t, stream)
	r := rand.New(rand.NewPCG(8, 8))
	for range 200 {
		f.push(fmt.Sprintf("%d:%d:LIKE", 1+r.IntN(6), laterID))
	}
	f.drain()
	f.addBook(laterID, later)
	cutting, stop := context.WithCancel(f.ctx)
	cut := make(chan int64)
	var failures atomic.Int64
	go func() {
		var n int64
		for cutting.Err() == nil {
			// Less and less often, or else nothing would ever get through on a slow machine.
			time.Sleep(time.Duration(5+failures.Load()) * time.Millisecond)
			tag, err := f.pool.Exec(f.ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND usename = 'aggregator_daemon' AND state = 'active'`)
			if err == nil {
				n += tag.RowsAffected()
			}
		}
		cut <- n
	}()
	for left := int64(1); left > 0; {
		for page, err := range deadletter.Pages(f.ctx, f.daemon.pool, deadletter.Filter{}, 50) {
			if err == nil {
				_, err = f.retrier().Retry(f.ctx, page)
			}
			if err != nil {
				failures.Add(1)
				break
			}
		}
		left = f.count(`SELECT count(*) FROM aggregator.dead_letter WHERE settled_at IS NULL`)
	}
	stop()
	t.Logf("%d connections cut, %d retries failed", <-cut, failures.Load())
	assert.Positive(t, failures.Load())
	f.verify()
}

// PostgreSQL loses the latest retries in a crash: scores and settlement together.
func TestRetryThroughACrash(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	server := testenv.NewPostgres(t, testenv.Setting("wal_writer_delay", "10s"))
	url, err := server.CreateDatabase(t.Context(), "app", "")
	require.NoError(t, err)
	require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: url}))
	require.NoError(t, testenv.Grant(t.Context(), url))
	f := newFixtureAt(t, stream, url, testenv.Redis(t))
	for i := range 20 {
		f.push(fmt.Sprintf("%d:%d:LIKE", 1+i%3, laterID))
	}
	f.drain()
	f.addBook(laterID, later)
	letters := f.letters(deadletter.Filter{})
	durable := f.retrier()
	durable.Durable = true
	done, err := durable.Retry(f.ctx, letters[:5])
	require.NoError(t, err)
	require.Equal(t, 5, done.Applied)
	require.Equal(t, 15, f.retry(letters[5:]).Applied)

	require.NoError(t, server.Crash())
	require.NoError(t, server.Start(t.Context()))
	f.pool.Reset()
	f.daemon.pool.Reset()
	lost := len(f.letters(deadletter.Filter{}))
	t.Logf("the crash took back %d of 15 asynchronous retries", lost)
	require.LessOrEqual(t, lost, 15, "what was durable is there")
	done = f.retry(letters)
	assert.Equal(t, lost, done.Applied)
	assert.Equal(t, 20-lost, done.Before)
	f.verify()
}
