package history

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Retention is how much of the history that the application has not deleted is kept: every
// row for so many days, then the last of each day, then the last of each month. Days and
// months are those of UTC, and whole ones: a day is thinned once all of it is old enough.
// The last is the one with the greatest id. The newest row of a profile is the last of
// its day, and stays; a row of the type DIAGNOSIS stays in any case.
type Retention struct {
	AllDays   int // every row for so many days; 0: all rows are kept
	DailyDays int // the last of each day until it is so many days old; at least AllDays
}

// Thins says whether it removes anything.
func (r Retention) Thins() bool { return r.AllDays > 0 }

// thinBatch is how many rows a transaction of the thinning looks at. It also looks at all other rows of the
// last of these profiles.
const thinBatch = 2000

// limits are what days and months must be before to be thinned.
type limits struct{ daily, monthly time.Time }

// walk is a way through all profiles.
type walk struct {
	limits
	began limits
	after int64 // the last profile that is done
}

// thin goes through the profiles, and remembers how far it came. If it is stopped, it goes on there the next
// time. When it has come to the end, it begins again only when the limits have moved, which they do once a day.
func (p *purger) thin(ctx context.Context) error {
	w, due, err := p.beginWalk(context.WithoutCancel(ctx))
	if err != nil || !due {
		return err
	}
	statement := thin
	args := []any{w.began.daily, w.began.monthly}
	switch {
	case p.options.DryRun:
		statement, args = countThin, nil
	case p.onCitus():
		statement = thinOnCitus
	}
	return p.repeat(ctx, func(ctx context.Context) (bool, error) {
		var seen, gone, genres, topics, journal int64
		var upto *int64
		err := p.pool.QueryRow(ctx, statement, append([]any{w.after, thinBatch, w.daily, w.monthly}, args...)...).
			Scan(&upto, &seen, &gone, &genres, &topics, &journal)
		if err != nil {
			return false, err
		}
		p.result.Thinned += gone
		p.result.Genres += genres
		p.result.Topics += topics
		p.result.Journal += journal
		if seen < thinBatch {
			return false, nil
		}
		w.after = *upto
		return true, nil
	})
}

// beginWalk returns the walk to take, if one is due. A dry run goes through all profiles.
func (p *purger) beginWalk(ctx context.Context) (w walk, due bool, err error) {
	var now limits
	err = p.pool.QueryRow(ctx, `
SELECT date_trunc('day', today - make_interval(days => $1)) AT TIME ZONE 'UTC',
       date_trunc('month', today - make_interval(days => $2)) AT TIME ZONE 'UTC'
FROM (SELECT least(now(), $3::timestamptz) AT TIME ZONE 'UTC') utc (today)`,
		p.options.Retention.AllDays, p.options.Retention.DailyDays, p.options.Now()).Scan(&now.daily, &now.monthly)
	fresh := walk{now, now, beforeAll}
	if err != nil || p.options.DryRun {
		return fresh, true, err
	}
	var began limits
	var after *int64
	err = p.pool.QueryRow(ctx, `SELECT daily_before, monthly_before, child_profile_id FROM aggregator.thinning`).
		Scan(&began.daily, &began.monthly, &after)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fresh, true, nil
	case err == nil && after != nil:
		return walk{now, began, *after}, true, nil
	}
	return fresh, !began.daily.Equal(now.daily) || !began.monthly.Equal(now.monthly), err
}

// A row is removed if a later row of its profile is of the same day, or month. Which row is the last is seen
// without a lock: if the application had deleted it a moment later, the result would have been the same.
//
// in: $1 the last profile of the batch before; $2 rows to look at; $3, $4 what is before these is thinned by
// day, by month; $5, $6 the limits with which the walk began.
// out: the last profile of this batch, rows seen and gone, their favorites, what the journal has of them.
const walkOn = `WITH reach AS (
    SELECT max(child_profile_id) AS upto, count(*) AS seen
    FROM (SELECT child_profile_id FROM child_personality_history WHERE child_profile_id > $1::bigint
	ORDER BY child_profile_id LIMIT $2) next
), due AS (
    SELECT h.child_profile_id, h.id
    FROM (
        SELECT child_profile_id, id, history_created_type, max(id) OVER (PARTITION BY child_profile_id,
            CASE WHEN created_at < $4::timestamptz THEN date_trunc('month', created_at::timestamptz, 'UTC')
            ELSE date_trunc('day', created_at::timestamptz, 'UTC') END) AS last
        FROM child_personality_history
        WHERE child_profile_id > $1::bigint AND child_profile_id <= (SELECT upto FROM reach)
	AND created_at < $3::timestamptz AND NOT is_deleted
    ) s JOIN child_personality_history h ON h.child_profile_id = s.child_profile_id AND h.id = s.id
    WHERE s.id < s.last AND s.history_created_type::text <> 'DIAGNOSIS' AND NOT h.is_deleted {lock}
), {act}
SELECT upto, seen, ` + counts + ` FROM reach`

const rememberWalk = `, walk AS (
    INSERT INTO aggregator.thinning (daily_before, monthly_before, child_profile_id)
    SELECT $5::timestamptz, $6::timestamptz, CASE WHEN seen = $2 THEN upto END FROM reach
    ON CONFLICT (walk) DO UPDATE SET daily_before = excluded.daily_before, monthly_before = excluded.monthly_before,
        child_profile_id = excluded.child_profile_id
)`

var (
	thin = strings.NewReplacer(
		"{lock}", "FOR UPDATE OF h SKIP LOCKED", "{act}", remove+rememberWalk).Replace(walkOn)
	thinOnCitus = strings.NewReplacer("{lock}", "", "{act}",
		strings.Replace(removeOnCitus, "{still}", "NOT h.is_deleted", 1)+rememberWalk).Replace(walkOn)
	countThin = strings.NewReplacer("{lock}", "", "{act}", count).Replace(walkOn)
)
