package aggregator_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/aggregator"
	"aggregator/internal/deadletter"
	"aggregator/internal/testenv"
)

// run starts the service, and returns what stops it.
func (f *fixture) run(a *aggregator.Aggregator) (stop func()) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.ctx)
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	return func() {
		f.t.Helper()
		cancel()
		require.NoError(f.t, <-ended)
	}
}

func (f *fixture) eventually(condition func() bool) {
	f.t.Helper()
	eventually(f.t, condition)
}

// The application pushes before it commits: the service applies the events once it has,
// also what an earlier service had found unknown, and two of them apply each once.
func TestRunRetriesWhatWasUnknown(t *testing.T) {
	for _, instances := range []int{1, 2} {
		t.Run(fmt.Sprint(instances), func(t *testing.T) {
			f := newFixture(t, stream)
			f.options.RetryUnknownFor, f.options.RetryEvery = time.Hour, 3*time.Millisecond
			f.push("31:1:LIKE", "31:2:DISLIKE", "1:1:LIKE")
			f.drain()
			var services []*aggregator.Aggregator
			var stops []func()
			for range instances {
				a := f.new()
				services, stops = append(services, a), append(stops, f.run(a))
			}
			retried := func() (n int64) {
				for _, a := range services {
					n += a.Stats().Retried
				}
				return n
			}
			f.push("1:13:LIKE", "31:1:LIKE", "32:13:LIKE", "1:2:EAT")
			f.eventually(func() bool { return f.count(`SELECT count(*) FROM aggregator.dead_letter`) == 6 })
			f.addProfile()
			f.eventually(func() bool { return retried() == 3 })
			f.addBook(laterID, later)
			f.eventually(func() bool { return retried() == 4 })
			f.addProfile()
			f.eventually(func() bool { return retried() == 5 })
			f.push("1:1:LIKE", "31:3:LIKE")
			f.eventually(func() bool { return f.count(sumOfMarks) == 3 })
			// The service whose checkpoint is refused may be the only one that has read the last event.
			f.eventually(func() bool { return f.redis.XLen(f.ctx, f.source.Key).Val() == 0 })
			for _, stop := range stops {
				stop()
			}
			f.verify()
			assert.EqualValues(t, 4, f.count(`SELECT count(*) FROM child_personality_history WHERE child_profile_id = 31`))
		})
	}
}

// So it is with those that PostgreSQL dated when its clock was ahead.
func TestDrainRetriesWhatIsOfTheFuture(t *testing.T) {
	f := newFixture(t, stream)
	f.options.RetryUnknownFor = time.Hour
	f.push("31:1:LIKE")
	f.drain()
	f.addProfile()
	f.exec(`UPDATE aggregator.dead_letter SET created_at = now() + interval '1 day'`)
	assert.EqualValues(t, 1, f.drain().Retried)
	f.verify()
}

// A drain tries them once, at its end, and only those that are not too old.
func TestDrainRetriesWhatWasUnknown(t *testing.T) {
	f := newFixture(t, partitioned(stream, 2))
	f.options.RetryUnknownFor = time.Hour
	f.push("31:1:LIKE", "32:1:LIKE", "1:13:LIKE", "1:1:EAT")
	assert.Zero(t, f.drain().Retried)
	f.addProfile()
	f.addProfile()
	f.exec(`UPDATE aggregator.dead_letter SET created_at = now() - interval '61 minutes' WHERE child_profile_id = 32`)
	stats := f.drain()
	assert.EqualValues(t, 1, stats.Retried)
	assert.Zero(t, stats.Applied)
	assert.Zero(t, f.drain().Retried)

	// What is too old is for a person.
	stuck := f.letters(deadletter.Filter{OlderThan: time.Hour})
	require.Len(t, stuck, 1)
	assert.Equal(t, 1, f.retry(stuck).Applied)
	f.verify()

	f.addBook(laterID, later)
	f.options.RetryUnknownFor = 0 // off
	assert.Zero(t, f.drain().Retried)
}

// What still cannot be applied is said once a round, with counts, and does not stop the rest.
func TestRunRetriesAndFails(t *testing.T) {
	testenv.Long(t)
	f := newFixture(t, stream)
	f.options.RetryUnknownFor, f.options.RetryEvery = time.Hour, 3*time.Millisecond
	for range 250 { // more than a page
		f.push("31:1:LIKE", "32:1:LIKE")
	}
	f.drain()
	f.exec(`ALTER TABLE genre_score ADD CONSTRAINT tall CHECK (child_profile_id <> 32)`)
	f.addProfile()
	f.addProfile()
	log := &logbook{}
	a := f.newWith(slog.New(slog.NewTextHandler(log, nil)))
	stop := f.run(a)
	f.eventually(func() bool { return strings.Contains(log.String(), "still cannot be applied") })
	stop()
	assert.EqualValues(t, 250, a.Stats().Retried)
	first, _, _ := strings.Cut(log.String()[strings.Index(log.String(), "level=WARN"):], "\n")
	assert.Contains(t, first, "applied=250 failed=250")
	assert.Contains(t, first, "SQLSTATE 23514")
	f.exec(`ALTER TABLE genre_score DROP CONSTRAINT tall`)
	assert.EqualValues(t, 250, f.drain().Retried)
	f.verify()
}

// While PostgreSQL refuses, the service lives; then it goes on.
func TestRunRetriesThroughAnOutage(t *testing.T) {
	f := newFixture(t, stream)
	f.options.RetryUnknownFor, f.options.RetryEvery = time.Hour, 3*time.Millisecond
	f.push("31:1:LIKE")
	f.drain()
	log := &logbook{}
	a := f.newWith(slog.New(slog.NewTextHandler(log, nil)))
	stop := f.run(a)
	f.push("1:1:LIKE")
	f.eventually(func() bool { return a.Stats().Applied == 1 }) // the trial of the attempt is over
	f.exec(`ALTER TABLE aggregator.dead_letter RENAME TO away`)
	f.eventually(func() bool {
		return strings.Contains(log.String(), "could not retry all dead letters of unknown profiles and books")
	})
	f.exec(`ALTER TABLE aggregator.away RENAME TO dead_letter`)
	f.addProfile()
	f.eventually(func() bool { return a.Stats().Retried == 1 })
	stop()
	f.verify()
}
