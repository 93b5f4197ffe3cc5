package oracle

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// found is what the database holds.
type found struct {
	genres, topics, letters *grid
	hasLetters              []bool
	applied                 []int64
	history                 map[int]snapshot // the latest row of each profile
	historyRows             int64
	letterRows              map[letter]int64
	strangers               []Mismatch // rows of no profile, genre or topic that there is
	strangerApplied         int64
}

// snapshot is a row of history with what hangs on it.
type snapshot struct {
	kind, mbti     string
	letters        [8]float64
	genres, topics []int64 // ids, in order
}

func readFound(ctx context.Context, tx pgx.Tx, c *catalogue) (*found, error) {
	profiles := len(c.profiles.ids)
	f := &found{
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
	var score float64
	query := fmt.Sprintf("SELECT child_profile_id, %s_id, score FROM %[1]s_score", of)
	return each(ctx, tx, query, []any{&profile, &id, &score}, func() {
		p, known := c.profiles.place[profile]
		column, knownID := columns.place[id]
		if known && knownID {
			g.add(p, column, score)
			return
		}
		f.stranger(profile, of+"_score", fmt.Sprintf("%s %d: %v", of, id, score))
	})
}

func (f *found) stranger(profile int64, table, row string) {
	f.strangers = append(f.strangers, Mismatch{profile, table, "no row", row})
}

const eightLetters = "i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score"

func (f *found) readLetters(ctx context.Context, tx pgx.Tx, c *catalogue) error {
	var profile int64
	var scores [8]float64
	into := []any{&profile}
	for i := range scores {
		into = append(into, &scores[i])
	}
	return each(ctx, tx, "SELECT child_profile_id, "+eightLetters+" FROM cumulative_mbti_score", into, func() {
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

// What the application diagnosed is no business of ours.
const latest = `SELECT DISTINCT ON (child_profile_id) *
	FROM child_personality_history WHERE history_created_type <> 'DIAGNOSIS' ORDER BY child_profile_id, created_at DESC, id DESC`

func (f *found) readHistory(ctx context.Context, tx pgx.Tx, c *catalogue) error {
	if err := tx.QueryRow(ctx, "SELECT count(*) FROM child_personality_history WHERE history_created_type <> 'DIAGNOSIS'").Scan(&f.historyRows); err != nil {
		return err
	}
	var profile int64
	var mbti *int64
	var s snapshot
	into := []any{&profile, &s.kind, &mbti}
	for i := range s.letters {
		into = append(into, &s.letters[i])
	}
	query := "SELECT child_profile_id, history_created_type, mbti_id, " + eightLetters + " FROM (" + latest + ") latest"
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
		query := fmt.Sprintf(`SELECT f.child_profile_id, f.%s_id FROM favorite_%[1]s f
			JOIN (%s) h ON h.child_profile_id = f.child_profile_id AND h.id = f.history_id`, l.of, latest)
		err := each(ctx, tx, query, []any{&profile, &id}, func() {
			p := c.profiles.place[profile]
			if s, has := f.history[p]; has {
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
