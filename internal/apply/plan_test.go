package apply

import (
	"context"
	"log/slog"
	"regexp"
	"strings"
	"testing"

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
)

// A statement is planned once, maybe while its tables are empty, and runs for weeks while
// they grow: its plan must be the same for ten profiles and for a million, and must never
// read a table from end to end. What is done for all profiles of a chunk at once must have that plan whatever
// PostgreSQL believes of the tables: joined the other way round it takes the square of the time.
func TestPlansDoNotDependOnSize(t *testing.T) {
	t.Parallel()
	const (
		analyzed = `VACUUM ANALYZE`
		// What ANALYZE leaves when it comes while all rows there are of transactions in progress.
		empty = `UPDATE pg_class SET reltuples = 0, relpages = 1000 WHERE oid IN ('aggregator.mark'::regclass,
			'child_profile'::regclass, 'book'::regclass, 'book_topic'::regclass, 'book_mbti'::regclass)`
		// As many pages as there are, each with more rows than fit: to read a table from end to end is cheaper than it is.
		million = analyzed + `; UPDATE pg_class SET reltuples = 20 * reltuples WHERE relnamespace IN
			('public'::regnamespace, 'aggregator'::regnamespace) AND reltuples >= 50000`
	)
	want := plans(t, 50_000, million)
	for name, plan := range want {
		assert.NotContains(t, plan, "Seq Scan", name)
	}
	assert.Equal(t, want, plans(t, 10, analyzed))
	for _, profiles := range []int{10, 100, 10_000} {
		for about, before := range map[string]string{
			"analyzed": analyzed, "never analyzed": "", "believed to be empty": empty,
		} {
			got := plans(t, profiles, before)
			for _, name := range []string{"marks", "checkpoint", "profiles", "books"} {
				assert.Equal(t, want[name], got[name], "%s of %d profiles, %s", name, profiles, about)
			}
		}
	}
}

// plans are those of all that a chunk sends, by what it is for, without their figures. The statements before
// are run when there are so many profiles.
func plans(t *testing.T, profiles int, before string) map[string]string {
	t.Helper()
	ctx := t.Context()
	var said []string
	pool, err := postgres.Open(ctx, postgres.Options{URL: testenv.Database(t), MaxConns: 1})
	require.NoError(t, err)
	config := pool.Config()
	pool.Close()
	config.ConnConfig.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { said = append(said, n.Message) }
	pool, err = pgxpool.NewWithConfig(ctx, config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	for _, statement := range []string{
		`SET statement_timeout = 0`,
		`INSERT INTO child_profile (id, name) SELECT i, 'c' FROM generate_series(1, $1::int) i`,
		`INSERT INTO genre_score SELECT i, 1 + i % 10, 1 FROM generate_series(1, $1::int) i`,
		`INSERT INTO topic_score SELECT i, 1 + i % 25, 1 FROM generate_series(1, $1::int) i`,
		`INSERT INTO cumulative_mbti_score (child_profile_id) SELECT i FROM generate_series(1, $1::int) i`,
		`INSERT INTO aggregator.mark SELECT i, 's', 1, 0, 0 FROM generate_series(1, $1::int) i`,
		`INSERT INTO book (id, title) SELECT i, 'b' FROM generate_series(1, $1::int) i`,
		`DELETE FROM aggregator.mark WHERE child_profile_id BETWEEN 5 AND 7`,
	} {
		args := []any{profiles}
		if !strings.Contains(statement, "$1") {
			args = nil
		}
		_, err := pool.Exec(ctx, statement, args...)
		require.NoError(t, err)
	}
	for statement := range strings.SplitSeq(before, ";") { // VACUUM is not one of several
		_, err = pool.Exec(ctx, statement)
		require.NoError(t, err)
	}
	for _, statement := range []string{
		`LOAD 'auto_explain'`, `SET auto_explain.log_min_duration = 0`, `SET auto_explain.log_level = notice`,
		`SET auto_explain.log_nested_statements = on`,
		`SET client_min_messages = notice`,
	} {
		_, err := pool.Exec(ctx, statement)
		require.NoError(t, err)
	}

	checkpoint, err := ledger.Create(context.WithoutCancel(ctx), pool, "s", events.Position{Ms: 1}, 0)
	require.NoError(t, err)
	delta := func(profile int64) scores.Delta {
		return scores.Delta{
			ProfileID: profile, Genres: []scores.Sum{{ID: 1, Value: 2}, {ID: 2, Value: 2}},
			Topics: []scores.Sum{{ID: 3, Value: 2}}, Typed: true, Events: 1,
		}
	}
	types, err := history.ReadTypes(ctx, pool)
	require.NoError(t, err)
	added := func(profile, from int64, careful bool) change {
		seen, to := events.Position{Ms: from}, events.Position{Ms: from + 1}
		return change{delta: delta(profile), seen: seen, to: to, applied: 1, careful: careful}
	}
	found := map[string]string{}
	for _, c := range []struct {
		name  string
		queue func(*pgx.Batch, ledger.Checkpoint, rules, []change)
		all   []change
	}{
		{"a profile", queueTogether, []change{added(1, 1, false)}},
		{"a profile, with care", queueTogether, []change{added(1, 2, true)}},
		{"a first mark", queueTogether, []change{added(5, 0, false)}},
		{"each", queueEach, []change{added(1, 3, false), added(2, 1, false)}},
		{"together", queueTogether, []change{added(1, 4, false), added(2, 2, false)}},
		{"together, first marks", queueTogether, []change{added(6, 0, false), added(7, 0, false)}},
	} {
		var batch pgx.Batch
		c.queue(&batch, checkpoint, rules{types: types}, c.all)
		said = nil
		require.NoError(t, pool.SendBatch(ctx, &batch).Close(), c.name)
		found[c.name] = shape(said)
	}
	said = nil
	_, err = ledger.Marks(ctx, pool, checkpoint, []int64{1, 2, 3})
	require.NoError(t, err)
	found["marks"] = shape(said)

	catalogue := scores.NewCatalogue(
		pool, slog.New(slog.DiscardHandler), scores.CatalogueOptions{Books: 1, Profiles: 1, TTL: 1})
	said = nil
	_, err = catalogue.Profiles(ctx, []int64{1, 2, 3})
	require.NoError(t, err)
	found["profiles"] = shape(said)
	said = nil
	_, err = catalogue.Books(ctx, []int64{1, 2, 3})
	require.NoError(t, err)
	found["books"] = shape(said)

	said = nil
	settlement := ledger.Advance{
		From: checkpoint, To: events.Position{Ms: 2}, Entries: 2,
		Marks: []ledger.Place{{ProfileID: 1, At: events.Position{Ms: 2}}, {ProfileID: 2, At: events.Position{Ms: 2}}},
	}
	require.NoError(t, pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		return ledger.TryMoveCheckpoint(ctx, tx, settlement)
	}))
	found["checkpoint"] = shape(said)
	for name, plan := range found {
		require.NotEmpty(t, plan, name)
	}
	return found
}

var (
	planFigures = regexp.MustCompile(`\s*\(cost=[^)]*\)|^duration: .*`)
	planLine    = regexp.MustCompile(`->|Cond|Filter|Scan|Aggregate|Insert on|Update on|CTE|Plan`)
)

// shape is the text of plans without costs, times and the text of the queries.
func shape(notices []string) string {
	var b strings.Builder
	for _, notice := range notices {
		lines := strings.Split(notice, "\n")
		in := false
		for _, line := range lines {
			in = in || strings.Contains(line, "(cost=")
			if in && planLine.MatchString(line) {
				b.WriteString(planFigures.ReplaceAllString(line, "") + "\n")
			}
		}
	}
	return b.String()
}
