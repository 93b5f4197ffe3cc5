package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/history"
	"aggregator/internal/postgres"
	"aggregator/scripts/bench/daemon"
	"aggregator/scripts/bench/meter"
	"aggregator/scripts/bench/report"
	"aggregator/scripts/bench/results"
)

// partPurge removes few and many rows from ever larger tables of history, and thins such tables out.
func (b *bench) partPurge(ctx context.Context) error {
	measured := results.Purge{When: now()}
	for i, rows := range b.histories {
		h, err := b.newHistory(ctx, rows)
		if err != nil {
			return err
		}
		for _, removed := range b.removals {
			r := results.Removal{Rows: rows, Removed: removed}
			for round := range b.runs {
				run, err := h.purge(ctx, removed, int64(round))
				if err != nil {
					return err
				}
				r.Runs = append(r.Runs, run)
				b.log("  %d/%d  %9d of %9d rows %8.3f s%s", round+1, b.runs, removed, rows, run.Seconds, disturbed(run.CPU.Others))
			}
			measured.Removals = append(measured.Removals, r)
		}
		if i == len(b.histories)-1 {
			if measured.Plan, err = h.plan(ctx); err != nil {
				return err
			}
		}
		if err := h.close(ctx); err != nil {
			return err
		}
	}
	for _, rows := range b.thinned {
		thinning, err := b.thin(ctx, rows)
		if err != nil {
			return err
		}
		measured.Thinnings = append(measured.Thinnings, thinning)
	}
	b.results.Purge = &measured
	fmt.Fprintf(b.out, "\npurge, %s\n", measured.When.Format(time.DateTime))
	report.Purge(measured).WriteText(b.out)
	fmt.Fprintf(b.out, "\n%s\n", measured.Plan)
	report.Thinning(measured).WriteText(b.out)
	return nil
}

// thin thins out a new table in each round, and goes through it once more.
func (b *bench) thin(ctx context.Context, rows int64) (thinning results.Thinning, err error) {
	thinning.Rows = rows
	for round := range b.runs {
		h, err := b.newHistory(ctx, rows)
		if err != nil {
			return thinning, err
		}
		first, err := h.thin(ctx, 30, rows/2)
		if err != nil {
			return thinning, err
		}
		again, err := h.thin(ctx, 31, 0) // by another rule: else it would not set out
		if err != nil {
			return thinning, err
		}
		thinning.Runs = append(thinning.Runs, first)
		thinning.Again = append(thinning.Again, again.Seconds)
		b.log("  %d/%d  %9d of %9d rows %8.3f s, again %8.3f s%s", round+1, b.runs, first.Events, rows, first.Seconds, again.Seconds, disturbed(first.CPU.Others))
		if err := h.close(ctx); err != nil {
			return thinning, err
		}
	}
	return thinning, nil
}

// historyTable is a database with so many rows of history, a hundred of each profile and two of
// a day, each with a favourite genre and topic.
type historyTable struct {
	*bench
	db   *pgx.Conn
	name string
	url  string
	rows int64
}

func (b *bench) newHistory(ctx context.Context, rows int64) (h *historyTable, err error) {
	h = &historyTable{bench: b, name: fmt.Sprintf("history_%d", rows), rows: rows}
	if h.url, err = b.servers.Postgres.CreateDatabase(ctx, h.name, ""); err != nil {
		return nil, err
	}
	if err := postgres.Migrate(ctx, postgres.Options{URL: h.url}); err != nil {
		return nil, err
	}
	if h.db, err = pgx.Connect(ctx, h.url); err != nil {
		return nil, err
	}
	// Keys are built when the rows are there.
	keys := map[string]string{
		"child_personality_history": "child_profile_id, id", "favorite_genre": "child_profile_id, history_id, genre_id", "favorite_topic": "child_profile_id, history_id, topic_id",
	}
	for table := range keys {
		if err := h.exec(ctx, fmt.Sprintf(`ALTER TABLE %s DROP CONSTRAINT %[1]s_pkey`, table)); err != nil {
			return nil, err
		}
	}
	if err := h.insert(ctx, 1, 0); err != nil {
		return nil, err
	}
	for table, columns := range keys {
		if err := h.exec(ctx, fmt.Sprintf(`ALTER TABLE %s ADD PRIMARY KEY (%s)`, table, columns)); err != nil {
			return nil, err
		}
	}
	return h, h.exec(ctx, `VACUUM (FREEZE, ANALYZE) child_personality_history, favorite_genre, favorite_topic`)
}

func (h *historyTable) exec(ctx context.Context, sql string) error {
	_, err := h.db.Exec(ctx, sql)
	return err
}

// insert writes the rows whose number leaves this rest when divided by step.
func (h *historyTable) insert(ctx context.Context, step, rest int64) error {
	numbers := fmt.Sprintf(`generate_series(%d::bigint, %d, %d) i`, (rest+step-1)%step+1, h.rows, step)
	for _, sql := range []string{
		`INSERT INTO child_personality_history (id, child_profile_id, created_at)
			SELECT i, i % {profiles}, date_trunc('day', now(), 'UTC') - interval '1 year' + (i - 1) / {profiles} * interval '12 hours' FROM `,
		`INSERT INTO favorite_genre SELECT i % {profiles}, i, 1 + i % 10 FROM `,
		`INSERT INTO favorite_topic SELECT i % {profiles}, i, 1 + i % 25 FROM `,
	} {
		if err := h.exec(ctx, strings.ReplaceAll(sql, "{profiles}", fmt.Sprint(max(h.rows/100, 1)))+numbers); err != nil {
			return err
		}
	}
	return nil
}

// purge deletes rows as the application does, all over the table and each at another time, and
// measures a purge of them; then puts them back. Rounds delete different rows.
func (h *historyTable) purge(ctx context.Context, remove, round int64) (run results.Run, err error) {
	step := h.rows / remove
	deleted := fmt.Sprintf(`UPDATE child_personality_history SET is_deleted = true, deleted_at = now() - interval '40 days' - random() * interval '1 year' WHERE id %% %d = %d`,
		step, round%step)
	for _, sql := range []string{deleted, `CHECKPOINT`} {
		if err := h.exec(ctx, sql); err != nil {
			return run, err
		}
	}
	if run, err = h.measure(ctx, remove); err != nil {
		return run, err
	}
	if err := h.insert(ctx, step, round%step); err != nil {
		return run, err
	}
	return run, h.exec(ctx, `VACUUM (ANALYZE) child_personality_history, favorite_genre, favorite_topic`)
}

// thin measures a purge that leaves of each day that is over so many days ago the last row.
func (h *historyTable) thin(ctx context.Context, days int, remove int64) (run results.Run, err error) {
	if err := h.exec(ctx, `CHECKPOINT`); err != nil {
		return run, err
	}
	return h.measure(ctx, remove, fmt.Sprintf("AGGREGATOR_RETENTION_ALL_DAYS=%d", days), "AGGREGATOR_RETENTION_DAILY_DAYS=3650")
}

// measure purges so many rows. The seconds are those without the pauses.
func (h *historyTable) measure(ctx context.Context, remove int64, settings ...string) (run results.Run, err error) {
	var purged daemon.Purged
	run, err = meter.Measure(ctx, h.servers, func() (err error) {
		purged, err = h.daemon(h.servers, h.url, settings...).Purge(ctx)
		return err
	})
	if removed := purged.Deleted + purged.Thinned; err == nil && removed != remove {
		err = fmt.Errorf("%d rows of %d were purged", removed, remove)
	}
	if err != nil {
		return run, err
	}
	run.CPU.Others /= run.Seconds
	run.Events, run.Seconds = remove, purged.Busy
	return run, nil
}

// plan is how PostgreSQL finds the rows to purge.
func (h *historyTable) plan(ctx context.Context) (plan string, err error) {
	pool, err := postgres.Open(ctx, postgres.Options{URL: h.url, MaxConns: 1})
	if err != nil {
		return "", err
	}
	config := pool.Config()
	pool.Close()
	config.ConnConfig.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if _, due, found := strings.Cut(n.Message, "  CTE due\n"); found && plan == "" {
			plan, _, _ = strings.Cut(due, "  CTE gone\n")
		}
	}
	config.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, `LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_level = notice; SET client_min_messages = notice`)
		return err
	}
	if pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return "", err
	}
	defer pool.Close()
	if _, err := history.Purge(ctx, pool, history.PurgeOptions{OlderThan: time.Hour}); err != nil {
		return "", err
	}
	return regexp.MustCompile(` +\(cost=[^)]*\)`).ReplaceAllString(plan, ""), nil
}

func (h *historyTable) close(ctx context.Context) error {
	if err := h.db.Close(ctx); err != nil {
		return err
	}
	return h.servers.Postgres.DropDatabase(ctx, h.name)
}
