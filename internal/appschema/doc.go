// Package appschema describes the tables of the application as they are, and says what it takes to work
// with them.
//
// It finds the schema that they are in (Resolve), reads their description from the catalogs (Read), says
// what is wrong with them (Description.Findings), and what adapts them (Description.Adaptation). The last two
// are pure functions, so that a test can ask for any description.
//
// All statements of the project name the tables and columns of migration 1. Where the application's own have other
// names or another form, a view in schema aggregator_views has the name and the form, and every session looks there
// first (docs/decisions/010). So there is one statement for each purpose; tables of the usual form cost nothing more.
//
// The schema of the aggregator is never searched for tables of the application, except to say that
// some are there.
package appschema

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

const (
	// Ours is the schema of the aggregator.
	Ours = "aggregator"
	// ViewSchema is the schema of the views that adapt tables of the application; it exists only if there are any.
	ViewSchema = "aggregator_views"
)

// Querier is a pool, a connection or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// need is what the service and its commands ask of a table of the application. Columns are separated by spaces.
type need struct {
	table   string
	drain   string            // the columns that a drain reads or writes
	columns string            // those that other commands do
	ids     string            // of the columns, those that must be integers
	inserts string            // the columns that a drain gives a new row; empty if it adds none
	unique  string            // the columns that must be a unique key, or rows would count twice; empty if none must
	lookup  string            // the columns of an index by which rows are found; one that begins with the first will do
	nulls   string            // columns that may be missing: they are read as NULL
	adds    map[string]string // columns that a migration adds if they are missing, with their type
}

const letters = "i_score e_score s_score n_score t_score f_score j_score p_score"

// needs are all tables of the application, in the order in which migration 1 creates them.
var needs = []need{
	{table: "genre", drain: "id", columns: "name", ids: "id", nulls: "name"},
	{table: "topic", drain: "id", columns: "name", ids: "id", nulls: "name"},
	{table: "mbti", drain: "id mbti", ids: "id", unique: "id"},
	{
		table: "book", drain: "id genre_id", columns: "title author publisher search_text", ids: "id genre_id",
		unique: "id", nulls: "author publisher", adds: map[string]string{"search_text": "text"},
	},
	{table: "book_topic", drain: "book_id topic_id", ids: "book_id topic_id", lookup: "book_id"},
	{table: "book_mbti", drain: "book_id mbti_id", ids: "book_id mbti_id", lookup: "book_id"},
	{table: "child_profile", drain: "id", ids: "id", unique: "id"},
	{
		table: "genre_score", drain: "child_profile_id genre_id score", ids: "child_profile_id genre_id",
		inserts: "child_profile_id genre_id score", unique: "child_profile_id genre_id",
	},
	{
		table: "topic_score", drain: "child_profile_id topic_id score", ids: "child_profile_id topic_id",
		inserts: "child_profile_id topic_id score", unique: "child_profile_id topic_id",
	},
	{
		table: "cumulative_mbti_score", drain: "child_profile_id " + letters, ids: "child_profile_id",
		inserts: "child_profile_id " + letters, unique: "child_profile_id",
	},
	{
		table:   "child_personality_history",
		drain:   "id child_profile_id created_at history_created_type is_deleted mbti_id " + letters,
		columns: "deleted_at", ids: "id child_profile_id mbti_id",
		inserts: "child_profile_id created_at history_created_type is_deleted mbti_id " + letters,
		lookup:  "child_profile_id id", adds: map[string]string{"deleted_at": "timestamptz"},
	},
	{
		table: "favorite_genre", drain: "child_profile_id history_id genre_id", ids: "child_profile_id history_id genre_id",
		inserts: "child_profile_id history_id genre_id", lookup: "child_profile_id history_id",
	},
	{
		table: "favorite_topic", drain: "child_profile_id history_id topic_id", ids: "child_profile_id history_id topic_id",
		inserts: "child_profile_id history_id topic_id", lookup: "child_profile_id history_id",
	},
}

// scoresApart is the table that has the scores of history rows where the history itself has none, but
// mbti_score_id, which refers to it.
var scoresApart = need{
	table: "mbti_score", drain: "id mbti_id " + letters, ids: "id mbti_id", inserts: "mbti_id " + letters, unique: "id",
}

// Tables are the names of all tables of the application, in the order in which a migration creates them.
func Tables() []string {
	names := make([]string, len(needs))
	for i, n := range needs {
		names[i] = n.table
	}
	return names
}

// Known are the names by which a table can be named: those of Tables, and of the table that has the scores of
// history rows where the history has none.
func Known() []string { return append(Tables(), scoresApart.table) }

func fields(columns string) []string { return strings.Fields(columns) }

// all are the columns of a need.
func (n need) all() []string { return append(fields(n.drain), fields(n.columns)...) }

func has(columns, name string) bool { return slices.Contains(fields(columns), name) }

// plain is a name without what object mappers write in different ways: case and underscores.
func plain(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "") }

// plainNames are those of all tables that are looked for.
func plainNames() []string {
	var names []string
	for _, n := range append(slices.Clone(needs), scoresApart) {
		names = append(names, plain(n.table))
	}
	return names
}
