package oracle

import (
	"context"
	"fmt"
	"regexp"
	"slices"

	"github.com/jackc/pgx/v5"

	"aggregator/scripts/loadgen/tables"
)

// found is what the database holds.
type found struct {
	tables                  tables.Kind
	genres, topics, letters *grid
	hasLetters              []bool
	applied                 []int64
	history                 map[int]snapshot // the latest row of each profile
	historyRows             int64
	letterRows              map[letter]int64
	strangers               []Mismatch // rows of no profile, genre or topic that there is, and rows too many
	strangerApplied         int64
}

// snapshot is a row of history with what hangs on it.
type snapshot struct {
	kind, mbti     string
	dated          bool
	letters        [8]float64
	genres, topics []int64 // ids, in order
}

func readFound(ctx context.Context, tx pgx.Tx, k tables.Kind, c *catalogue) (*found, error) {
	profiles := len(c.profiles.ids)
	f := &found{
		tables: k,
		genres: newGrid(profiles, len(c.genres.ids)), topics: newGrid(profiles, len(c.topics.ids)),
		letters: newGrid(profiles, len(letters)), hasLetters: make([]bool, profiles),
		applied: make([]int64, profiles), history: map[int]snapshot{}, letterRows: map[letter]int64{},
	}
	steps := []struct {
		name string
		read func(context.Context, pgx.Tx, *catalogue) error
	}{
		{"genre_score", f.readGenres},
		{"topic_score", f.readTopics},
		{"cumulative_mbti_score", f.readLetters},
		{"aggregator.mark", f.readMarks},
		{"child_personality_history", f.readHistory},
		{"favorite_genre and favorite_topic", f.readFavourites},
		{"mbtiscore", f.readLoose},
		{"aggregator.dead_letter", f.readDeadLetters},
	}
	for _, step := range steps {
		if err := step.read(ctx, tx, c); err != nil {
			return nil, fmt.Errorf("reading %s: %w", step.name, err)
		}
	}
	return f, nil
}

func (f *found) readGenres(ctx context.Context, tx pgx.Tx, c *catalogue) error {
	return f.readScores(ctx, tx, c, "genre", c.genres, f.genres)
}

func (f *found) readTopics(ctx context.Context, tx pgx.Tx, c *catalogue) error {
	return f.readScores(ctx, tx, c, "topic", c.topics, f.topics)
}

func (f *found) readScores(ctx context.Context, tx pgx.Tx, c *catalogue, of string, columns axis, g *grid) error {
	var profile, id int64
	var score *float64
	query := fmt.Sprintf("SELECT coalesce(child_profile_id, 0), coalesce(%s_id, 0), score::float8 FROM %s",
		of, f.tables.From(of+"_score"))
	return each(ctx, tx, query, []any{&profile, &id, &score}, func() {
		p, known := c.profiles.place[profile]
		column, knownID := columns.place[id]
		switch {
		case !known, !knownID:
			f.stranger(profile, of+"_score", fmt.Sprintf("%s %d: %s", of, id, scoreText(score)))
			return
		case g.rows(p)[column]:
			// The application's tables may hold two, of which it reads either. The sum is compared all the same.
			one := fmt.Sprintf("one row of %s %d", of, id)
			f.strangers = append(f.strangers, Mismatch{profile, of + "_score", one, "another: " + scoreText(score)})
		}
		if score == nil {
			g.addNull(p, column)
			return
		}
		g.add(p, column, *score)
	})
}

func scoreText(score *float64) string {
	if score == nil {
		return "NULL"
	}
	return fmt.Sprint(*score)
}

func (f *found) stranger(profile int64, table, row string) {
	f.strangers = append(f.strangers, Mismatch{profile, table, "no row", row})
}

// letterScores reads the scores of the letters, whatever type of number they have.
var letterScores = regexp.MustCompile(`\w+_score`).ReplaceAllString(tables.Scores, "coalesce($0, 0)::float8")

func (f *found) readLetters(ctx context.Context, tx pgx.Tx, c *catalogue) error {
	var profile int64
	var scores [8]float64
	into := []any{&profile}
	for i := range scores {
		into = append(into, &scores[i])
	}
	query := "SELECT coalesce(child_profile_id, 0), " + letterScores + " FROM " + f.tables.From("cumulative_mbti_score")
	return each(ctx, tx, query, into, func() {
		p, known := c.profiles.place[profile]
		if !known {
			f.stranger(profile, "cumulative_mbti_score", fmt.Sprint(scores))
			return
		}
		f.hasLetters[p] = true
		copy(f.letters.of(p), scores[:])
	})
}

func (f *found) readMarks(ctx context.Context, tx pgx.Tx, c *catalogue) error {
	var profile, applied int64
	query := "SELECT child_profile_id, sum(applied)::bigint FROM aggregator.mark GROUP BY child_profile_id"
	return each(ctx, tx, query, []any{&profile, &applied}, func() {
		p, known := c.profiles.place[profile]
		switch {
		case known:
			f.applied[p] = applied
		case applied != 0: // an unknown profile has a mark, with nothing applied
			f.strangerApplied += applied
			f.stranger(profile, "aggregator.mark", fmt.Sprintf("%d applied", applied))
		}
	})
}

// feedback are the rows of history, but for what the application diagnosed, which is no business of ours.
func (f *found) feedback() string {
	return f.tables.From("child_personality_history") + " WHERE history_created_type::text IS DISTINCT FROM 'DIAGNOSIS'"
}

// latest are the last rows of the profiles. One without a time counts as the last, so that it is looked at.
func (f *found) latest() string {
	return "SELECT DISTINCT ON (child_profile_id) * FROM " + f.feedback() +
		" ORDER BY child_profile_id, created_at DESC, id DESC"
}

func (f *found) readHistory(ctx context.Context, tx pgx.Tx, c *catalogue) error {
	if err := tx.QueryRow(ctx, "SELECT count(*) FROM "+f.feedback()).Scan(&f.historyRows); err != nil {
		return err
	}
	var profile int64
	var mbti *int64
	var s snapshot
	into := []any{&profile, &s.kind, &s.dated, &mbti}
	for i := range s.letters {
		into = append(into, &s.letters[i])
	}
	query := "SELECT coalesce(child_profile_id, 0), coalesce(history_created_type::text, 'none')," +
		" created_at IS NOT NULL, mbti_id, " + letterScores + " FROM (" + f.latest() + ") latest"
	return each(ctx, tx, query, into, func() {
		p, known := c.profiles.place[profile]
		if !known {
			f.stranger(profile, "child_personality_history", "a row")
			return
		}
		s.mbti = "none"
		if mbti != nil {
			s.mbti = c.types[*mbti]
		}
		f.history[p] = s
	})
}

// readFavourites finds the favorites by their row of history. Where they name a profile too, it must be that
// of the row.
func (f *found) readFavourites(ctx context.Context, tx pgx.Tx, c *catalogue) error {
	lists := []struct {
		of   string
		list func(*snapshot) *[]int64
	}{
		{"genre", func(s *snapshot) *[]int64 { return &s.genres }},
		{"topic", func(s *snapshot) *[]int64 { return &s.topics }},
	}
	for _, l := range lists {
		var profile, id int64
		query := fmt.Sprintf(`SELECT h.child_profile_id, coalesce(f.%s_id, 0) FROM %s f
			JOIN (%s) h ON h.id = f.history_id
			WHERE coalesce((to_jsonb(f) ->> 'child_profile_id')::bigint, h.child_profile_id) = h.child_profile_id`,
			l.of, f.tables.From("favorite_"+l.of), f.latest())
		err := each(ctx, tx, query, []any{&profile, &id}, func() {
			p, known := c.profiles.place[profile]
			if s, has := f.history[p]; known && has {
				list := l.list(&s)
				*list = append(*list, id)
				f.history[p] = s
			}
		})
		if err != nil {
			return err
		}
		for p, s := range f.history {
			slices.Sort(*l.list(&s))
			f.history[p] = s
		}
	}
	return nil
}

// readLoose counts the rows of scores whose history is not there: a half of what is written together.
func (f *found) readLoose(ctx context.Context, tx pgx.Tx, _ *catalogue) error {
	query := f.tables.Loose()
	if query == "" {
		return nil
	}
	var n int64
	if err := tx.QueryRow(ctx, query).Scan(&n); err != nil {
		return err
	}
	if n > 0 {
		without := fmt.Sprintf("%d rows without", n)
		f.strangers = append(f.strangers, Mismatch{0, "mbtiscore", "history for each row", without})
	}
	return nil
}
