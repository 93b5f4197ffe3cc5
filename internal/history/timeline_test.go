package history_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/history"
)

func timeline(t *testing.T, pool *pgxpool.Pool, profile int64, s history.Selection) []history.Snapshot {
	t.Helper()
	snapshots, err := history.Timeline(t.Context(), pool, profile, s)
	require.NoError(t, err)
	return snapshots
}

func TestTimeline(t *testing.T) {
	pool := connect(t)
	_, err := history.Timeline(t.Context(), pool, 404, history.Selection{Limit: 10})
	require.ErrorIs(t, err, history.ErrNoProfile)
	assert.Empty(t, timeline(t, pool, 1, history.Selection{Limit: 10}))
	for range 3 {
		snapshot(t, pool, 1)
	}
	snapshot(t, pool, 2)
	all := timeline(t, pool, 1, history.Selection{Limit: 10})
	require.Len(t, all, 3)
	assert.Greater(t, all[0].ID, all[1].ID, "newest first")
	assert.Equal(t, "FEEDBACK", all[0].Cause)
	assert.WithinDuration(t, time.Now(), all[0].Created, time.Minute)

	assert.Equal(t, all[:2], timeline(t, pool, 1, history.Selection{Limit: 2}))
	assert.Equal(t, all[1:], timeline(t, pool, 1, history.Selection{Limit: 10, Before: all[0].Created}))
	assert.Equal(t, all[1:2], timeline(t, pool, 1, history.Selection{Limit: 1, Before: all[0].Created}))
	assert.Empty(t, timeline(t, pool, 1, history.Selection{Limit: 10, Before: all[2].Created}))

	exec(t, pool, `UPDATE child_personality_history SET is_deleted = true, deleted_at = now() WHERE id = $1`, all[1].ID)
	left := timeline(t, pool, 1, history.Selection{Limit: 10})
	require.Len(t, left, 2)
	assert.Equal(t, []int64{all[0].ID, all[2].ID}, []int64{left[0].ID, left[1].ID})
	with := timeline(t, pool, 1, history.Selection{Limit: 10, Deleted: true})
	require.Len(t, with, 3)
	assert.Nil(t, with[0].Deleted)
	assert.NotNil(t, with[1].Deleted)
}

func TestChange(t *testing.T) {
	pool := connect(t)
	set := func(scores string) {
		t.Helper()
		exec(t, pool, `DELETE FROM genre_score`)
		exec(t, pool, `DELETE FROM topic_score`)
		exec(t, pool, `INSERT INTO genre_score `+scores)
		exec(t, pool, `INSERT INTO topic_score `+scores)
		snapshot(t, pool, 1)
	}
	set(`VALUES (1, 1, 5), (1, 2, 5)`)
	exec(t, pool, `INSERT INTO cumulative_mbti_score (child_profile_id, e_score) VALUES (1, 1)`)
	set(`VALUES (1, 2, 5), (1, 3, 5)`)
	set(`VALUES (1, 2, 5), (1, 3, 5)`)
	all := timeline(t, pool, 1, history.Selection{Limit: 10})
	require.Len(t, all, 3)
	assert.Equal(t, &history.Change{
		Type: "ENTJ", GenresGained: []string{}, GenresLost: []string{}, TopicsGained: []string{}, TopicsLost: []string{},
	}, all[0].Change, "nothing")
	assert.Equal(t, &history.Change{
		Type: "INTJ", GenresGained: []string{"g3"}, GenresLost: []string{"g1"}, TopicsGained: []string{"t3"},
		TopicsLost: []string{"t1"},
	}, all[1].Change)
	assert.Nil(t, all[2].Change, "the first")
	assert.Equal(t, all[:1], timeline(t, pool, 1, history.Selection{Limit: 1}),
		"the one before is not shown, and compared with")

	// One that is gone has no name, and two of the same name are two.
	exec(t, pool, `UPDATE genre SET name = 'g2' WHERE id = 3`)
	exec(t, pool, `DELETE FROM topic WHERE id = 3`)
	all = timeline(t, pool, 1, history.Selection{Limit: 10})
	assert.Equal(t, []string{"g2", "g2"}, all[0].Genres)
	assert.Equal(t, []string{"#3", "t2"}, all[0].Topics)
	assert.Equal(t, []string{"g2"}, all[1].Change.GenresGained)
}

// Whatever ids a profile's rows have, and though some of them are out of order, what stood at a
// moment is what a look at all of them finds.
func TestTimelineBefore(t *testing.T) {
	pool := connect(t)
	rng := rand.New(rand.NewPCG(7, 8))
	first := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	hours := func(n int) time.Time { return first.Add(time.Duration(n) * time.Hour) }
	all := map[int64][]row{5: {
		{Profile: 5, ID: math.MinInt64, Created: first},
		{Profile: 5, ID: math.MaxInt64, Created: hours(500)},
	}}
	for profile, next := range map[int64]func(last int64) int64{
		1: func(last int64) int64 { return last + 1 },
		2: func(last int64) int64 { return last + 1 + rng.Int64N(1<<40) },
		3: func(last int64) int64 { return last + 1 + int64(rng.ExpFloat64()*rng.ExpFloat64()*1000) },
		4: func(last int64) int64 { return max(last+1, last/2) },
	} {
		id := int64(-1 << 62)
		for i := range 1000 {
			delay := 0
			if profile > 1 {
				delay = rng.IntN(101)
			}
			all[profile] = append(all[profile],
				row{Profile: profile, ID: id, Created: hours(i + delay), Deleted: rng.IntN(3) == 0})
			id = next(id)
		}
	}
	for profile, rows := range all {
		writeRows(t, pool, rows)
		for range 200 {
			s := history.Selection{Limit: 1 + rng.IntN(20), Deleted: rng.IntN(2) == 0, Before: hours(rng.IntN(1120) - 5)}
			want, got := []int64{}, []int64{}
			for _, r := range slices.Backward(rows) {
				if r.Created.Before(s.Before) && (s.Deleted || !r.Deleted) && len(want) < s.Limit {
					want = append(want, r.ID)
				}
			}
			for _, snapshot := range timeline(t, pool, profile, s) {
				got = append(got, snapshot.ID)
			}
			require.Equal(t, want, got, "profile %d, %+v", profile, s)
		}
	}
}
