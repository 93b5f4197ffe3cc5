// Package appschema describes the tables of the application as they are: the schema that they are in,
// their kinds, keys and columns. It finds the schema (Resolve), reads the description from the catalogs
// (Read), and says what is wrong with it (Description.Findings), which is a pure function.
//
// The schema of the aggregator is never looked into for tables of the application, except to say that
// some are there.
package appschema

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Ours is the schema of the aggregator.
const Ours = "aggregator"

// Querier is a pool, a connection or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// need is what the service and its commands ask of a table of the application. Columns are separated by spaces.
type need struct {
	table   string
	others  []string // names that object mappers give it
	drain   string   // the columns that a drain reads or writes
	columns string   // those that other commands do
	ids     string   // of the columns, those that must be integers
	inserts string   // the columns that a drain gives a new row; empty if it adds none
	unique  string   // the columns that must be a unique key, or rows would count twice; empty if none must
}

const letters = "i_score e_score s_score n_score t_score f_score j_score p_score"

// needs are all tables of the application, in the order in which migration 1 creates them.
var needs = []need{
	{table: "genre", columns: "id name", ids: "id"},
	{table: "topic", columns: "id name", ids: "id"},
	{table: "mbti", drain: "id mbti", ids: "id", unique: "id"},
	{table: "book", drain: "id genre_id", columns: "title author publisher search_text", ids: "id genre_id", unique: "id"},
	{table: "book_topic", others: []string{"booktopic"}, drain: "book_id topic_id", ids: "book_id topic_id"},
	{table: "book_mbti", others: []string{"bookmbti"}, drain: "book_id mbti_id", ids: "book_id mbti_id"},
	{table: "child_profile", others: []string{"childprofile"}, drain: "id", ids: "id", unique: "id"},
	{
		table: "genre_score", others: []string{"genrescore"}, drain: "child_profile_id genre_id score",
		ids: "child_profile_id genre_id", inserts: "child_profile_id genre_id score", unique: "child_profile_id genre_id",
	},
	{
		table: "topic_score", others: []string{"topicscore"}, drain: "child_profile_id topic_id score",
		ids: "child_profile_id topic_id", inserts: "child_profile_id topic_id score", unique: "child_profile_id topic_id",
	},
	{
		table: "cumulative_mbti_score", others: []string{"cumulativembtiscore", "cumulative_mbtiscore"}, drain: "child_profile_id " + letters,
		ids: "child_profile_id", inserts: "child_profile_id " + letters, unique: "child_profile_id",
	},
	{
		table: "child_personality_history", others: []string{"childpersonalityhistory"},
		drain:   "id child_profile_id created_at history_created_type is_deleted mbti_id " + letters,
		columns: "deleted_at", ids: "id child_profile_id mbti_id",
		inserts: "child_profile_id created_at history_created_type is_deleted mbti_id " + letters,
	},
	{
		table: "favorite_genre", others: []string{"favoritegenre"}, drain: "child_profile_id history_id genre_id",
		ids: "child_profile_id history_id genre_id", inserts: "child_profile_id history_id genre_id",
	},
	{
		table: "favorite_topic", others: []string{"favoritetopic"}, drain: "child_profile_id history_id topic_id",
		ids: "child_profile_id history_id topic_id", inserts: "child_profile_id history_id topic_id",
	},
}

// Tables are the names of all tables of the application, in the order in which a migration creates them.
func Tables() []string {
	names := make([]string, len(needs))
	for i, n := range needs {
		names[i] = n.table
	}
	return names
}

// knownNames are those of Tables and of object mappers.
func knownNames() []string {
	names := Tables()
	for _, n := range needs {
		names = append(names, n.others...)
	}
	return names
}
