package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"aggregator/internal/history"
	"aggregator/internal/postgres"
	"aggregator/scripts/bench/report"
	"aggregator/scripts/bench/results"
)

const (
	longHistory = 10_000 // rows
	looks       = 101    // times that each is looked at
)

// partTimeline looks at the end of long histories and at moments long before.
func (b *bench) partTimeline(ctx context.Context) error {
	const name = "timeline"
	url, err := b.servers.Postgres.CreateDatabase(ctx, name, "")
	if err != nil {
		return err
	}
	if err := fillTimelines(ctx, url, b.timelines); err != nil {
		return err
	}
	pool, err := postgres.Open(ctx, postgres.Options{URL: url, MaxConns: 1})
	if err != nil {
		return err
	}
	defer pool.Close()
	measured := results.Timeline{When: now(), Rows: longHistory, Profiles: b.timelines}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, look := range []struct {
		what string
		past bool
		history.Selection
	}{
		{"the latest ten", false, history.Selection{Limit: 10}},
		{"as it stood at a moment", true, history.Selection{Limit: 1}},
		{"the ten before a moment", true, history.Selection{Limit: 10}},
	} {
		l := results.Look{What: look.what}
		for range looks {
			if look.past {
				look.Before = firstHour.Add(time.Duration(longHistory/10+rng.IntN(longHistory*8/10)) * time.Hour)
			}
			began := time.Now()
			snapshots, err := history.Timeline(ctx, pool, 1+rng.Int64N(b.timelines), look.Selection)
			l.Seconds = append(l.Seconds, time.Since(began).Seconds())
			if err == nil && len(snapshots) != look.Limit {
				err = fmt.Errorf("%d snapshots were found, not %d", len(snapshots), look.Limit)
			}
			if err != nil {
				return err
			}
		}
		measured.Looks = append(measured.Looks, l)
	}
	b.results.Timeline = &measured
	fmt.Fprintf(b.out, "\ntimeline, %s\n", measured.When.Format(time.DateTime))
	report.Timeline(measured).WriteText(b.out)
	pool.Close()
	return b.servers.Postgres.DropDatabase(ctx, name)
}

var firstHour = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// fillTimelines writes long histories of so many profiles, a row an hour, in turn.
func fillTimelines(ctx context.Context, url string, profiles int64) error {
	if err := postgres.Migrate(ctx, postgres.Options{URL: url}); err != nil {
		return err
	}
	db, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer db.Close(ctx)
	written := strings.NewReplacer("{profiles}", fmt.Sprint(profiles), "{rows}", fmt.Sprint(longHistory*profiles), "{first}", firstHour.Format(time.RFC3339))
	for _, statement := range []string{
		`INSERT INTO genre (id, name) SELECT i, 'Genre ' || i FROM generate_series(1, 10) i`,
		`INSERT INTO topic (id, name) SELECT i, 'Topic ' || i FROM generate_series(1, 25) i`,
		`INSERT INTO child_profile (id, name) SELECT i, 'c' FROM generate_series(1, {profiles}) i`,
		`INSERT INTO child_personality_history (child_profile_id, created_at, mbti_id)
			SELECT 1 + i % {profiles}, '{first}'::timestamptz + i / {profiles} * interval '1 hour', 1 + i % 16 FROM generate_series(0, {rows} - 1) i`,
		`INSERT INTO favorite_genre SELECT child_profile_id, id, 1 + (id + k) % 10 FROM child_personality_history, generate_series(1, 3) k`,
		`INSERT INTO favorite_topic SELECT child_profile_id, id, 1 + (id + k) % 25 FROM child_personality_history, generate_series(1, 5) k`,
		`VACUUM (FREEZE, ANALYZE)`,
	} {
		if err := execAll(ctx, db, written.Replace(statement)); err != nil {
			return err
		}
	}
	return nil
}
