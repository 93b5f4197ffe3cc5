package catalogue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrNotMigrated says that the database lacks the tables of the aggregator.
var ErrNotMigrated = errors.New("the database is not migrated: run `aggregator migrate up` on it first")

// ErrNotEmpty says that the database holds rows that would be in the way.
var ErrNotEmpty = errors.New("the database already holds a catalogue, profiles or scores: use --reset to empty these tables first")

// tables are those that Fill writes and those that hang on them; Reset empties them all.
var tables = []string{
	"genre", "topic", "book", "book_topic", "book_mbti", "child_profile",
	"genre_score", "topic_score", "cumulative_mbti_score",
	"child_personality_history", "favorite_genre", "favorite_topic",
	"aggregator.mark", "aggregator.checkpoint", "aggregator.dead_letter",
}

// Filled counts the rows written.
type Filled struct {
	Shape
	BookTopics int64 `json:"book_topics"`
	BookTypes  int64 `json:"book_types"`
	ScoreRows  int64 `json:"score_rows"`
}

// Fill writes the catalogue, the profiles, their score rows, all at 0, and a diagnosis of
// each, in one transaction: after an error the database is as it was. With reset it empties the
// tables first; else it refuses a database that holds anything.
func Fill(ctx context.Context, db *pgx.Conn, s Shape, reset bool) (Filled, error) {
	filled := Filled{Shape: s}
	if err := s.Check(); err != nil {
		return filled, err
	}
	if err := migrated(ctx, db); err != nil {
		return filled, err
	}
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if err := makeRoom(ctx, tx, reset); err != nil {
			return err
		}
		types, err := TypeIDs(ctx, tx)
		if err != nil {
			return err
		}
		return filled.copyAll(ctx, tx, types)
	})
	if err != nil {
		return filled, err
	}
	if _, err := db.Exec(ctx, "ANALYZE genre, topic, book, book_topic, book_mbti, child_profile, genre_score, topic_score, cumulative_mbti_score"); err != nil {
		return filled, fmt.Errorf("analyzing the tables: %w", err)
	}
	return filled, nil
}

func migrated(ctx context.Context, db *pgx.Conn) error {
	var missing []string
	err := db.QueryRow(ctx,
		"SELECT coalesce(array_agg(name), '{}') FROM unnest($1::text[]) name WHERE to_regclass(name) IS NULL",
		append([]string{"mbti"}, tables...)).Scan(&missing)
	if err != nil {
		return fmt.Errorf("looking for the tables: %w", err)
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w (no table %s)", ErrNotMigrated, missing[0])
	}
	return nil
}

func makeRoom(ctx context.Context, tx pgx.Tx, reset bool) error {
	for _, table := range tables {
		if reset {
			break
		}
		var holds bool
		if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+table+")").Scan(&holds); err != nil {
			return fmt.Errorf("looking into %s: %w", table, err)
		}
		if holds {
			return fmt.Errorf("%w (rows in %s)", ErrNotEmpty, table)
		}
	}
	if !reset {
		return nil
	}
	// Without CASCADE: a table of somebody else's that refers to ours is not ours to empty.
	truncate := "TRUNCATE " + tables[0]
	for _, table := range tables[1:] {
		truncate += ", " + table
	}
	if _, err := tx.Exec(ctx, truncate); err != nil {
		return fmt.Errorf("emptying the tables: %w", err)
	}
	return nil
}

// TypeIDs are the ids of the personality types by name. All sixteen must be there.
func TypeIDs(ctx context.Context, tx pgx.Tx) (map[string]int64, error) {
	rows, err := tx.Query(ctx, "SELECT mbti, id FROM mbti")
	if err != nil {
		return nil, fmt.Errorf("reading the types: %w", err)
	}
	ids := map[string]int64{}
	var name string
	var id int64
	if _, err := pgx.ForEachRow(rows, []any{&name, &id}, func() error { ids[name] = id; return nil }); err != nil {
		return nil, fmt.Errorf("reading the types: %w", err)
	}
	for _, name := range Types {
		if _, found := ids[name]; !found {
			return nil, fmt.Errorf("%w (no type %s)", ErrNotMigrated, name)
		}
	}
	return ids, nil
}

func (f *Filled) copyAll(ctx context.Context, tx pgx.Tx, types map[string]int64) error {
	c := copier{ctx: ctx, tx: tx}
	c.numbered("genre", "name", f.Genres, "Genre ")
	c.numbered("topic", "name", f.Topics, "Topic ")
	c.into("book", []string{"id", "title", "genre_id"}, func(add func(...any)) {
		for id := int64(1); id <= f.Books; id++ {
			add(id, "Book "+strconv.FormatInt(id, 10), f.Book(id).Genre)
		}
	})
	f.BookTopics = c.into("book_topic", []string{"book_id", "topic_id"}, func(add func(...any)) {
		for id := int64(1); id <= f.Books; id++ {
			for _, topic := range f.Book(id).Topics {
				add(id, topic)
			}
		}
	})
	f.BookTypes = c.into("book_mbti", []string{"book_id", "mbti_id"}, func(add func(...any)) {
		for id := int64(1); id <= f.Books; id++ {
			if name := f.Book(id).Type; name != "" {
				add(id, types[name])
			}
		}
	})
	c.numbered("child_profile", "name", f.Profiles, "Child ")
	f.ScoreRows = f.copyScores(&c)
	f.copyDiagnoses(&c, types)
	for _, table := range []string{"genre", "topic", "book", "child_profile"} {
		c.advance(table)
	}
	return c.err
}

func (f *Filled) copyScores(c *copier) int64 {
	rows := c.into("genre_score", []string{"child_profile_id", "genre_id", "score"}, func(add func(...any)) {
		f.each(f.Genres, f.HasGenreScore, func(profile, id int64) { add(profile, id, 0.0) })
	})
	rows += c.into("topic_score", []string{"child_profile_id", "topic_id", "score"}, func(add func(...any)) {
		f.each(f.Topics, f.HasTopicScore, func(profile, id int64) { add(profile, id, 0.0) })
	})
	return rows + c.into("cumulative_mbti_score", []string{"child_profile_id"}, func(add func(...any)) {
		for profile := int64(1); profile <= f.Profiles; profile++ {
			if f.HasTypeScore(profile) {
				add(profile)
			}
		}
	})
}

// copyDiagnoses gives each profile the history row that the application writes when a
// child joins: a type, with nothing scored yet.
func (f *Filled) copyDiagnoses(c *copier, types map[string]int64) {
	joined := time.Now().Add(-24 * time.Hour)
	c.into("child_personality_history", []string{"child_profile_id", "created_at", "history_created_type", "mbti_id"}, func(add func(...any)) {
		for profile := int64(1); profile <= f.Profiles; profile++ {
			add(profile, joined, "DIAGNOSIS", types["INTJ"])
		}
	})
}

func (f *Filled) each(ids int64, has func(profile, id int64) bool, row func(profile, id int64)) {
	for profile := int64(1); profile <= f.Profiles; profile++ {
		for id := int64(1); id <= ids; id++ {
			if has(profile, id) {
				row(profile, id)
			}
		}
	}
}
