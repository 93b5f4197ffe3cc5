package history_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/history"
)

// row is one of the history as far as the thinning is concerned.
type row struct {
	Profile, ID int64
	Created     time.Time
	Cause       string
	Deleted     bool
}

// kept says in the plainest way which rows of all are kept.
func kept(all []row, r history.Retention, now time.Time) (ids []int64) {
	today := now.UTC().Truncate(day)
	daily := today.AddDate(0, 0, -r.AllDays)
	back := today.AddDate(0, 0, -r.DailyDays)
	monthly := time.Date(back.Year(), back.Month(), 1, 0, 0, 0, 0, time.UTC)
	for _, x := range all {
		later := slices.ContainsFunc(all, func(y row) bool {
			if y.Profile != x.Profile || y.ID <= x.ID || y.Deleted {
				return false
			}
			a, b := x.Created.UTC(), y.Created.UTC()
			return a.Year() == b.Year() && a.Month() == b.Month() && (a.Day() == b.Day() || a.Before(monthly))
		})
		if x.Deleted || x.Cause == "DIAGNOSIS" || !x.Created.Before(daily) || !later {
			ids = append(ids, x.ID)
		}
	}
	return ids
}

func (w *purgeWorld) write(rows []row) {
	w.Helper()
	writeRows(w.T, w.all, rows)
	for _, kind := range []string{"genre", "topic"} {
		exec(w.T, w.all, `INSERT INTO favorite_`+kind+
			` SELECT child_profile_id, id, f FROM child_personality_history, generate_series(1, 2) f ON CONFLICT DO NOTHING`)
	}
}

func writeRows(t *testing.T, pool *pgxpool.Pool, rows []row) {
	t.Helper()
	_, err := pool.CopyFrom(t.Context(), pgx.Identifier{"child_personality_history"},
		[]string{"child_profile_id", "id", "created_at", "history_created_type", "is_deleted"},
		pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) {
			r := rows[i]
			return []any{r.Profile, r.ID, r.Created, r.Cause, r.Deleted}, nil
		}))
	require.NoError(t, err)
}

// now is the time of PostgreSQL, by which the ages are.
func (w *purgeWorld) now() (now time.Time) {
	w.Helper()
	require.NoError(w, w.all.QueryRow(w.Context(), `SELECT now()`).Scan(&now))
	return now
}

// Random histories, a few of them with clocks that go back, come to what the rule says; and
// to thin them again, or by a wider rule, changes nothing.
func TestThin(t *testing.T) {
	w := newPurgeWorld(t)
	rng := rand.New(rand.NewPCG(5, 6))
	now := w.now()
	var rows []row
	for profile := range int64(60) {
		at := now.Add(-time.Duration(rng.IntN(800)) * day)
		for range 1 + rng.IntN(200) {
			at = at.Add(time.Duration(rng.ExpFloat64() * float64(30*time.Hour)))
			if rng.IntN(30) == 0 {
				at = at.Add(-time.Duration(rng.IntN(100)) * time.Hour)
			}
			if at.After(now) {
				break
			}
			r := row{profile, int64(len(rows) + 1), at, "FEEDBACK", rng.IntN(15) == 0}
			if rng.IntN(20) == 0 {
				r.Cause = "DIAGNOSIS"
			}
			rows = append(rows, r)
		}
	}
	require.Greater(t, len(rows), 4000)
	w.write(rows)
	o := history.PurgeOptions{Retention: history.Retention{AllDays: 30, DailyDays: 180}}
	want := kept(rows, o.Retention, now)
	require.Greater(t, len(rows), len(want)+1000)

	o.DryRun = true
	counted := w.do(o)
	o.DryRun = false
	done := w.do(o)
	assert.Equal(t, want, w.ids())
	assert.EqualValues(t, len(rows)-len(want), done.Thinned)
	assert.Greater(t, done.Batches, int64(3))
	assert.Equal(t, counted.Thinned, done.Thinned)
	assert.Equal(t, []int64{2 * done.Thinned, 2 * done.Thinned}, []int64{done.Genres, done.Topics})

	assert.EqualValues(t, 1, w.do(o).Batches, "once a day is enough")
	o.Retention.DailyDays = 400
	again := w.do(o)
	assert.Zero(t, again.Thinned)
	assert.Greater(t, again.Batches, int64(1), "another rule is another walk")
	assert.Equal(t, want, w.ids())
}

func TestThinByDayAndMonth(t *testing.T) {
	now := time.Now().UTC()
	old := time.Date(now.Year()-2, 3, 10, 0, 0, 0, 0, time.UTC)
	recent := now.Truncate(day).Add(-40 * day)
	at := func(t time.Time, hours int) time.Time { return t.Add(time.Duration(hours) * time.Hour) }
	for name, c := range map[string]struct {
		rows []row
		want []int64
	}{
		"the last of a month": {
			[]row{{Created: old}, {Created: at(old, 30)}, {Created: at(old, 40)}, {Created: now}}, []int64{3, 4},
		},
		"the last of each day": {
			[]row{{Created: recent}, {Created: at(recent, 23)}, {Created: at(recent, 24)}, {Created: now}}, []int64{2, 3, 4},
		},
		"every row": {
			[]row{{Created: now.Add(-50 * time.Hour)}, {Created: now.Add(-50 * time.Hour)}, {Created: now}}, []int64{1, 2, 3},
		},
		"the newest":         {[]row{{Created: old}, {Created: at(old, 1)}}, []int64{2}},
		"the newest of each": {[]row{{Profile: 1, Created: old}, {Profile: 2, Created: old}}, []int64{1, 2}},
		"a diagnosis stays": {
			[]row{{Created: old, Cause: "DIAGNOSIS"}, {Created: at(old, 1)}, {Created: at(old, 2)}}, []int64{1, 3},
		},
		"a diagnosis may be last": {
			[]row{{Created: old}, {Created: at(old, 1), Cause: "DIAGNOSIS"}, {Created: now}}, []int64{2, 3},
		},
		"deleted ones do not count": {
			[]row{{Created: old}, {Created: at(old, 1), Deleted: true}, {Created: now}}, []int64{1, 2, 3},
		},
		"of two months": {[]row{{Created: old}, {Created: old.AddDate(0, 1, 0)}, {Created: now}}, []int64{1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newPurgeWorld(t)
			for i := range c.rows {
				c.rows[i].ID = int64(i + 1)
				if c.rows[i].Cause == "" {
					c.rows[i].Cause = "FEEDBACK"
				}
			}
			r := history.Retention{AllDays: 30, DailyDays: 180}
			require.Equal(t, c.want, kept(c.rows, r, now), "the rule in its plain form")
			w.write(c.rows)
			w.do(history.PurgeOptions{Retention: r})
			assert.Equal(t, c.want, w.ids())
		})
	}
}

// A walk that is stopped goes on where it was, also by somebody else and with other limits.
func TestThinStopped(t *testing.T) {
	w := newPurgeWorld(t)
	now := w.now()
	var rows []row
	for profile := range int64(3) {
		for range 1500 {
			rows = append(rows, row{profile, int64(len(rows) + 1), now.Add(-400 * day), "FEEDBACK", false})
		}
	}
	w.write(rows)
	o := history.PurgeOptions{Retention: history.Retention{AllDays: 30, DailyDays: 180}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stopped := o
	stopped.Progress = func(r history.PurgeResult) {
		if r.Thinned > 0 {
			cancel()
		}
	}
	first, err := history.Purge(ctx, w.purge, stopped)
	require.NoError(t, err)
	assert.True(t, first.Left)
	assert.EqualValues(t, 2*1499, first.Thinned, "whole profiles")

	o.Retention.AllDays = 60
	second := w.do(o)
	assert.EqualValues(t, 1499, second.Thinned)
	assert.EqualValues(t, 2, second.Batches, "only what was left")
	assert.Equal(t, []int64{1500, 3000, 4500}, w.ids())
	assert.EqualValues(t, 2, w.do(o).Batches, "the limits have moved since that walk began")
	assert.EqualValues(t, 1, w.do(o).Batches)
}
