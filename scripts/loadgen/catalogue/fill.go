package catalogue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"aggregator/scripts/loadgen/tables"
)

// ErrNotMigrated says that the database lacks the tables of the aggregator.
var ErrNotMigrated = errors.New("the database is not migrated: run `aggregator migrate up` on it first")

// ErrNoTables says that the database lacks the tables of the origin, which nothing but an application or
// `loadgen create-tables` makes.
var ErrNoTables = errors.New("the tables of the origin are missing: run `loadgen create-tables --tables origin` first")

// ErrNotEmpty says that the database holds rows that would be in the way.
var ErrNotEmpty = errors.New(
	"the database already holds a catalogue, profiles or scores: use --reset to empty these tables first")

// ledger are the aggregator's own tables that tell of the same events.
var ledger = []string{"aggregator.mark", "aggregator.checkpoint", "aggregator.dead_letter"}

// Filled counts the rows written.
type Filled struct {
	Shape
	BookTopics int64 `json:"book_topics"`
	BookTypes  int64 `json:"book_types"`
	ScoreRows  int64 `json:"score_rows"`
}

// Fill is FillTables of our own tables.
func Fill(ctx context.Context, db *pgx.Conn, s Shape, reset bool) (Filled, error) {
	return FillTables(ctx, db, tables.Own, s, reset)
}

// FillTables writes the catalogue, the profiles, their score rows, all at 0, and a diagnosis of
// each, in one transaction: after an error the database is as it was. With reset it empties the
// tables first; else it refuses a database that holds anything.
func FillTables(ctx context.Context, db *pgx.Conn, k tables.Kind, s Shape, reset bool) (Filled, error) {
	filled := Filled{Shape: s}
	if err := s.Check(); err != nil {
		return filled, err
	}
	if err := migrated(ctx, db, k); err != nil {
		return filled, err
	}
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if err := makeRoom(ctx, tx, append(k.Filled(), ledger...), reset); err != nil {
			return err
		}
		types, err := TypeIDs(ctx, tx)
		if err != nil {
			return err
		}
		return filled.copyAll(ctx, tx, k, types)
	})
	if err != nil {
		return filled, err
	}
	analyze := "ANALYZE genre, topic, book, book_topic, child_profile, genre_score, topic_score, " +
		k.Name("book_mbti") + ", " + k.Name("cumulative_mbti_score")
	if _, err := db.Exec(ctx, analyze); err != nil {
		return filled, fmt.Errorf("analyzing the tables: %w", err)
	}
	return filled, nil
}

// migrated says which table is missing, and what makes it.
func migrated(ctx context.Context, db *pgx.Conn, k tables.Kind) error {
	var missing []string
	err := db.QueryRow(ctx,
		"SELECT coalesce(array_agg(name), '{}') FROM unnest($1::text[]) name WHERE to_regclass(name) IS NULL",
		append(append(k.Filled(), "mbti"), ledger...)).Scan(&missing)
	if err != nil {
		return fmt.Errorf("looking for the tables: %w", err)
	}
	switch {
	case len(missing) == 0:
		return nil
	case k == tables.Origin && !slices.Contains(ledger, missing[0]):
		return fmt.Errorf("%w (no table %s)", ErrNoTables, missing[0])
	}
	return fmt.Errorf("%w (no table %s)", ErrNotMigrated, missing[0])
}

// ErrDistributed says that Citus has distributed the tables: it refuses the statements that fill them.
var ErrDistributed = errors.New(
	"the tables are distributed by Citus: seed them before aggregator migrate up --distribute")

func checkPlain(ctx context.Context, tx pgx.Tx) error {
	var installed, distributed bool
	err := tx.QueryRow(ctx, "SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL").Scan(&installed)
	if err == nil && installed {
		err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_dist_partition
    WHERE logicalrelid = to_regclass('child_profile'))`).Scan(&distributed)
	}
	if err == nil && distributed {
		err = ErrDistributed
	}
	return err
}

func makeRoom(ctx context.Context, tx pgx.Tx, all []string, reset bool) error {
	if err := checkPlain(ctx, tx); err != nil {
		return err
	}
	for _, table := range all {
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
	// Without CASCADE: another application's table that refers to ours is not ours to empty.
	if _, err := tx.Exec(ctx, "TRUNCATE "+strings.Join(all, ", ")); err != nil {
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

func (f *Filled) copyAll(ctx context.Context, tx pgx.Tx, k tables.Kind, types map[string]int64) error {
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
	f.BookTypes = c.into(k.Name("book_mbti"), []string{"book_id", "mbti_id"}, func(add func(...any)) {
		for id := int64(1); id <= f.Books; id++ {
			if name := f.Book(id).Type; name != "" {
				add(id, types[name])
			}
		}
	})
	c.numbered("child_profile", "name", f.Profiles, "Child ")
	f.ScoreRows = f.copyScores(&c, k)
	c.exec("child_personality_history", k.Diagnose(), types["INTJ"])
	for _, table := range []string{"genre", "topic", "book", "child_profile"} {
		c.advance(table)
	}
	return c.err
}

func (f *Filled) copyScores(c *copier, k tables.Kind) int64 {
	rows := c.into("genre_score", []string{"child_profile_id", "genre_id", "score"}, func(add func(...any)) {
		f.each(f.Genres, f.HasGenreScore, func(profile, id int64) { add(profile, id, 0.0) })
	})
	rows += c.into("topic_score", []string{"child_profile_id", "topic_id", "score"}, func(add func(...any)) {
		f.each(f.Topics, f.HasTopicScore, func(profile, id int64) { add(profile, id, 0.0) })
	})
	columns := append([]string{"child_profile_id"}, strings.Split(tables.Scores, ", ")...)
	return rows + c.into(k.Name("cumulative_mbti_score"), columns, func(add func(...any)) {
		for profile := int64(1); profile <= f.Profiles; profile++ {
			if f.HasTypeScore(profile) {
				add(profile, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
			}
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
