package history

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/scores"
)

// Current is the scores of a profile for genres and topics as they stand now. Its names are those of the JSON form.
type Current struct {
	Genres Ranking `json:"genres"`
	Topics Ranking `json:"topics"`
}

// Ranking is all scores for genres, or for topics.
type Ranking struct {
	Mean   *float64 `json:"mean"`   // what the rule compares each score with; null: none counts
	Scores []Ranked `json:"scores"` // the greatest first
}

// Ranked is a score, and whether the rule makes it that of a favorite.
type Ranked struct {
	ID       int64    `json:"id"`
	Name     string   `json:"name"`  // #7 for one that is gone
	Score    *float64 `json:"score"` // null: Infinity or NaN, which the application must have written
	Favorite bool     `json:"favorite"`
}

// CurrentScores returns the scores of a profile, empty if it has none or does not exist. They are those of the latest
// snapshot, if nothing else has written them since. Reads only.
func CurrentScores(
	ctx context.Context, pool *pgxpool.Pool, rule scores.Preference, profileID int64,
) (c Current, err error) {
	if c.Genres, err = ranking(ctx, pool, rule, "genre", profileID); err == nil {
		c.Topics, err = ranking(ctx, pool, rule, "topic", profileID)
	}
	if err != nil {
		return c, fmt.Errorf("reading the scores of profile %d: %w", profileID, err)
	}
	return c, nil
}

func ranking(
	ctx context.Context, pool *pgxpool.Pool, rule scores.Preference, kind string, profileID int64,
) (r Ranking, err error) {
	sums, err := scoresOf(ctx, pool, kind, profileID)
	if err != nil {
		return r, err
	}
	all := ordered(sums)
	names, err := namesOf(ctx, pool, kind, "name", slices.Collect(maps.Keys(sums)))
	if err != nil {
		return r, err
	}
	if mean, some := rule.Mean(all); some {
		r.Mean = &mean
	}
	favorites := rule.Favorites(all)
	r.Scores = make([]Ranked, len(all))
	slices.SortStableFunc(all, func(a, b scores.Sum) int { return cmp.Compare(b.Value, a.Value) })
	for i, s := range all {
		r.Scores[i] = Ranked{ID: s.ID, Name: named(names, s.ID), Favorite: slices.Contains(favorites, s.ID)}
		if !math.IsInf(s.Value, 0) && !math.IsNaN(s.Value) {
			r.Scores[i].Score = &s.Value
		}
	}
	return r, nil
}

// ordered are scores by rising id.
func ordered(sums map[int64]float64) []scores.Sum {
	all := make([]scores.Sum, 0, len(sums))
	for _, id := range slices.Sorted(maps.Keys(sums)) {
		all = append(all, scores.Sum{ID: id, Value: sums[id]})
	}
	return all
}
