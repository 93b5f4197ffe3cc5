package apply

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/deadletter"
	"aggregator/internal/events"
	"aggregator/internal/history"
	"aggregator/internal/ledger"
	"aggregator/internal/scores"
	"aggregator/internal/testenv"
	"aggregator/internal/verdict"
)

// journalOf is the journal by profile, as "position:book:weight" of each event and ";" after each row. It fails
// unless there is one row of the journal for each row of history.
func journalOf(t *testing.T, pool *pgxpool.Pool) map[int64]string {
	t.Helper()
	rows, _ := pool.Query(t.Context(), `SELECT h.child_profile_id, j.positions, j.books, j.weights, j.exact_weights
		FROM child_personality_history h FULL JOIN aggregator.journal j
			ON j.child_profile_id = h.child_profile_id AND j.history_id = h.id ORDER BY h.id`)
	all := map[int64]string{}
	var profile int64
	var p history.Packed
	_, err := pgx.ForEachRow(rows, []any{&profile, &p.Positions, &p.Books, &p.Weights, &p.Exact}, func() error {
		entries, err := p.Entries()
		for _, e := range entries {
			all[profile] += fmt.Sprintf("%s:%d:%g ", e.Position, e.BookID, e.Weight)
		}
		all[profile] += ";"
		return err
	})
	require.NoError(t, err)
	return all
}

// applied applies events, given as profile:book:action, at the positions 1-0, 2-0 and so on, as one chunk.
func applied(t *testing.T, pool *pgxpool.Pool, from ledger.Checkpoint, o Options, texts ...string) error {
	t.Helper()
	o.Workers, o.Timeout, o.Preferred = 2, time.Minute, scores.MeanOfPositive
	catalogue := scores.NewCatalogue(pool, slog.New(slog.DiscardHandler),
		scores.CatalogueOptions{Books: 100, Profiles: 100, TTL: time.Minute})
	a := &Applier{
		Pool: pool, Catalogue: catalogue, Source: from.Source, Options: o, More: make(chan struct{}, 1),
		Committed: func(Tally) {}, Took: func(time.Duration, int) {}, Conflicts: func(int) {}, Resolved: func(Tally) {},
	}
	a.Begin()
	require.NoError(t, Probe(t.Context(), pool, from.Source, o.Journal))
	decoder := events.NewDecoder(map[string]float64{"LIKE": 2, "DISLIKE": -2, "TENTH": 0.1, "HUGE": 1e300})
	batch := &events.Batch{Entries: len(texts)}
	for i, text := range texts {
		e, reason, _ := decoder.Decode(events.Payload{Form: events.FormEvent, Bytes: []byte(text)})
		require.Contains(t, []events.Reason{"", events.UnknownAction}, reason)
		e.Position = position(int64(i+1), 0)
		if strings.HasPrefix(text, "9:") {
			e.Position = position(int64(i+1), 1<<40) // does not fit into one number
		}
		batch.Events = append(batch.Events, e)
		batch.Last = e.Position
	}
	c, err := a.LookUp(t.Context(), from, batch, &pgx.Batch{})
	require.NoError(t, err)
	census := c.Census()
	return c.Apply(t.Context(), &census, func(Census) error { return nil })
}

func catalogued(t *testing.T) (*pgxpool.Pool, ledger.Checkpoint) {
	t.Helper()
	pool, from := written(t)
	testenv.Execute(t, pool, `INSERT INTO book (id, title, genre_id) SELECT i, 'b', i FROM generate_series(1, 4) i`)
	testenv.Execute(t, pool, `INSERT INTO book_topic SELECT i, i FROM generate_series(1, 4) i`)
	testenv.Execute(t, pool, `INSERT INTO book_mbti SELECT i, i FROM generate_series(1, 4) i`)
	return pool, from
}

// The journal has what was applied, whichever way it went: no dead letter, no event that coalescing left out.
func TestJournal(t *testing.T) {
	t.Parallel()
	texts := []string{
		"1:1:LIKE", "2:1:LIKE", "1:2:DISLIKE", "3:99:LIKE", "3:1:LIKE", "4:98:LIKE", "5:1:TENTH", "1:1:DISLIKE", "6:1:HUGE",
		"9:1:LIKE", "3:2:EAT", "7777:1:LIKE",
	}
	want := map[int64]string{
		1: "1-0:1:2 3-0:2:-2 8-0:1:-2 ;", 2: "2-0:1:2 ;", 3: "5-0:1:2 ;", 5: "7-0:1:0.1 ;", 6: "9-0:1:1e+300 ;",
		9: "10-1099511627776:1:2 ;",
	}
	for name, tc := range map[string]struct {
		options Options
		change  map[int64]string
	}{
		"each":      {options: Options{ProfilesPerTransaction: 1}},
		"together":  {options: Options{ProfilesPerTransaction: 50}},
		"auto":      {options: Options{ProfilesPerTransaction: Auto}},
		"coalesced": {Options{ProfilesPerTransaction: 1, Coalesce: true}, map[int64]string{1: "3-0:2:-2 8-0:1:-2 ;"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, from := catalogued(t)
			tc.options.Journal = true
			require.NoError(t, applied(t, pool, from, tc.options, texts...))
			got := journalOf(t, pool)
			for profile, text := range want {
				if changed, found := tc.change[profile]; found {
					text = changed
				}
				assert.Equal(t, text, got[profile], "profile %d", profile)
			}
			assert.Len(t, got, len(want))
			require.NoError(t, applied(t, pool, from, tc.options, texts...), "read again")
			assert.Equal(t, got, journalOf(t, pool), "what is read again is skipped")
		})
	}
	t.Run("off", func(t *testing.T) {
		t.Parallel()
		pool, from := catalogued(t)
		require.NoError(t, applied(t, pool, from, Options{ProfilesPerTransaction: 1}, texts...))
		assert.Equal(t, len(want), testenv.Query[int](t, pool, `SELECT count(*) FROM child_personality_history`))
		assert.Zero(t, testenv.Query[int](t, pool, `SELECT count(*) FROM aggregator.journal`))
	})
}

// What is isolated after a refusal has a row of the journal for each row of history, without what was refused. A dead
// letter that is retried has one of its own.
func TestJournalAfterARefusal(t *testing.T) {
	t.Parallel()
	for name, together := range map[string]int{"each": 1, "together": 50} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, from := catalogued(t)
			testenv.Execute(t, pool, `ALTER TABLE genre_score ADD CONSTRAINT no_third CHECK (genre_id <> 3)`)
			o := Options{ProfilesPerTransaction: together, Journal: true}
			require.NoError(t, applied(t, pool, from, o,
				"1:1:LIKE", "1:2:LIKE", "1:3:LIKE", "1:4:LIKE", "2:1:LIKE", "2:88:LIKE"))
			assert.Equal(t, map[int64]string{1: "1-0:1:2 2-0:2:2 ;4-0:4:2 ;", 2: "5-0:1:2 ;"}, journalOf(t, pool))

			testenv.Execute(t, pool,
				`ALTER TABLE genre_score DROP CONSTRAINT no_third; INSERT INTO book (id, title) VALUES (88, 'b')`)
			var letters []deadletter.Letter
			for page, err := range deadletter.Pages(t.Context(), pool, deadletter.Filter{ByPosition: true}, 10) {
				require.NoError(t, err)
				letters = append(letters, page...)
			}
			retrier := &Retrier{
				Pool: pool, Timeout: time.Minute, Decoder: events.NewDecoder(map[string]float64{"LIKE": 2}), Journal: true,
				Catalogue: scores.NewCatalogue(pool, slog.New(slog.DiscardHandler),
					scores.CatalogueOptions{Books: 100, Profiles: 100, TTL: time.Minute}),
			}
			done, err := retrier.Retry(t.Context(), letters)
			require.NoError(t, err)
			require.Equal(t, 2, done.Applied)
			assert.Equal(t, map[int64]string{1: "1-0:1:2 2-0:2:2 ;4-0:4:2 ;3-0:3:2 ;", 2: "5-0:1:2 ;6-0:88:2 ;"},
				journalOf(t, pool))
			assert.Equal(t, "s", testenv.Query[string](t, pool,
				`SELECT string_agg(DISTINCT source, ' ') FROM aggregator.journal`))
		})
	}
}

// A right or a function that only the journal needs is found before a chunk, and only with the journal.
func TestProbeOfTheJournal(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ fault, want string }{
		"no procedure": {`DROP PROCEDURE aggregator.apply_each_journaled`, "apply_each_journaled"},
		"no table":     {`ALTER TABLE aggregator.journal RENAME TO elsewhere`, "aggregator.journal"},
		"a constraint": {`ALTER TABLE aggregator.journal ADD CHECK (source = 'x')`, "journal_source_check"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, _ := catalogued(t)
			require.NoError(t, Probe(t.Context(), pool, "s", true))
			testenv.Execute(t, pool, tc.fault)
			require.NoError(t, Probe(t.Context(), pool, "s", false))
			err := Probe(t.Context(), pool, "s", true)
			require.ErrorContains(t, err, tc.want)
			assert.Equal(t, verdict.Halt, verdict.Of(err))
		})
	}
}
