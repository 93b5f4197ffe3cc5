package appschema

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// ours is the description of the tables that migration 1 makes.
func ours() Description {
	d := Description{
		Schema: "public", Zone: "UTC", Encoding: "UTF8", Tables: map[string]Table{}, MayCreate: true,
		MayCreateSchema: true,
	}
	for _, n := range needs {
		t := Table{Schema: "public", Name: n.table, Kind: Ordinary, Fills: true, Tracks: true, Owned: true}
		for _, name := range n.all() {
			c := Column{Name: name, Type: "text", NotNull: slices.Contains(fields(n.drain), name)}
			switch {
			case slices.Contains(fields(n.ids), name):
				c.Type = "bigint"
			case strings.HasSuffix(name, "score"):
				c.Type = "double precision"
			case strings.HasSuffix(name, "_at"):
				c.Type = "timestamp with time zone"
			case name == "is_deleted":
				c.Type = "boolean"
			}
			c.Identity = name == "id"
			t.Columns = append(t.Columns, c)
		}
		t.Key = fields(n.unique)
		if len(t.Key) == 0 {
			t.Key = fields(cmp.Or(n.lookup, n.ids))
		}
		t.Unique, t.Indexes = [][]string{t.Key}, [][]string{t.Key}
		d.Tables[n.table] = t
	}
	return d
}

func TestFindings(t *testing.T) {
	require.Empty(t, ours().Findings())
	require.Empty(t, ours().Missing())
	require.NoError(t, ours().Check(true))
	require.Equal(t, Adaptation{}, ours().Adaptation())

	table := func(name string, change func(*Table)) func(*Description) {
		return func(d *Description) { d.change(name, change) }
	}
	column := func(name, of string, change func(*Column)) func(*Description) {
		return table(name, func(t *Table) {
			i := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == of })
			change(&t.Columns[i])
		})
	}
	kind := func(k Kind) func(*Table) { return func(t *Table) { t.Kind = k } }
	of := func(name string) func(*Column) { return func(c *Column) { c.Type = name } }
	for name, tc := range map[string]struct {
		change   func(*Description)
		severity Severity
		found    string
	}{
		"a view":              {table("mbti", kind(View)), Refused, "mbti is a view: rows are not locked in it"},
		"a materialized view": {table("book", kind(Materialized)), Refused, "book is a materialized view"},
		"a foreign table":     {table("genre_score", kind(Foreign)), Refused, "genre_score is a foreign table"},
		"a uuid": {
			column("child_profile", "id", of("uuid")), Refused,
			"child_profile.id is of type uuid, and not an integer",
		},
		"a uuid that refers": {
			column("favorite_topic", "topic_id", of("uuid")), Refused,
			"favorite_topic.topic_id is of type uuid, and not an integer",
		},
		"a numeric id": {
			column("genre_score", "genre_id", of("numeric")), Refused,
			"genre_score.genre_id is of type numeric, and not an integer",
		},
		"a type by name in the history": {
			table("child_personality_history", func(t *Table) {
				t.Columns = slices.DeleteFunc(t.Columns, func(c Column) bool { return c.Name == "mbti_id" })
				t.Columns = append(t.Columns, Column{Name: "mbti", Type: "text"})
			}), Refused, "child_personality_history.mbti_id is not there",
		},
		"scores as text": {
			column("child_personality_history", "i_score", of("text")), Refused,
			"child_personality_history.i_score is of type text, and not a number",
		},
		"money": {
			column("topic_score", "score", of("money")), Refused, "topic_score.score is of type money, and not a number",
		},
		"a number that says whether": {
			column("child_personality_history", "is_deleted", of("smallint")), Refused,
			"child_personality_history.is_deleted is of type smallint, and not boolean",
		},
		"a day": {
			column("child_personality_history", "created_at", of("date")), Refused,
			"child_personality_history.created_at is of type date, and not a timestamp",
		},
		"a kind that is neither text nor number": {
			column("child_personality_history", "history_created_type", of("bytea")), Refused,
			"child_personality_history.history_created_type is of type bytea, and not a text, an enum or an integer",
		},
		"types in an enum": {
			column("mbti", "mbti", func(c *Column) { c.Type, c.Labels = "types", []string{"INTJ"} }), Refused,
			"mbti.mbti is of type types, and not a text",
		},
		"a title that is no text": {
			column("book", "title", of("bytea")), Problem, "book.title is of type bytea, and not a text",
		},
		"a partition": {
			table("child_personality_history", func(t *Table) { t.Parent = "public.history" }), Refused,
			"child_personality_history is a partition of public.history",
		},
		"unlogged": {
			table("genre_score", func(t *Table) { t.Unlogged = true }), Problem, "genre_score is UNLOGGED: a crash",
		},
		"row security": {
			table("genre_score", func(t *Table) { t.Policed = true }), Problem, "genre_score has row security",
		},
		"a score that must not be below zero": {
			table("genre_score", func(t *Table) {
				t.Checks = []Check{{[]string{"score"}, "CHECK ((score >= 0))"}, {[]string{"genre_id"}, "CHECK ((genre_id > 0))"}}
			}), Warning, "genre_score.score has the constraint CHECK ((score >= 0)): an event that breaks it",
		},
		"another name": {
			table("cumulative_mbti_score", func(t *Table) { t.Name = "cumulativembtiscore" }), Adapted,
			"cumulative_mbti_score is called cumulativembtiscore here",
		},
		"no key of a score": {
			table("genre_score", func(t *Table) { t.Unique, t.Key = nil, []string{"id"} }), Refused,
			"genre_score has no unique key on (child_profile_id, genre_id)",
		},
		"no key of profiles": {
			table("child_profile", func(t *Table) { t.Unique, t.Key = nil, nil }), Refused,
			"child_profile has no primary key and no other unique key on (id)",
		},
		"no key of history": {
			table("child_personality_history", func(t *Table) { t.Unique, t.Key = nil, nil }), Warning,
			"child_personality_history has no primary key",
		},
		"a column to fill": {table(
			"topic_score", func(t *Table) {
				t.Columns = append(t.Columns, Column{Name: "version", Type: "integer", NotNull: true})
			}), Refused, "topic_score.version is NOT NULL and has no default, and a drain does not write it"},
		"an id to fill": {
			column("child_personality_history", "id", func(c *Column) { c.Identity = false }), Refused,
			"child_personality_history.id is NOT NULL and has no default",
		},
		"generated": {
			column("genre_score", "score", func(c *Column) { c.Generated = true }), Refused,
			"genre_score.score is generated",
		},
		"no column of ours": {
			table("favorite_genre", func(t *Table) { t.Columns = t.Columns[1:] }), Adapted,
			"favorite_genre.child_profile_id is not there",
		},
		"no text to search": {
			table("book", func(t *Table) { t.Columns = t.Columns[:len(t.Columns)-1] }), Problem,
			"book.search_text is not there",
		},
		"an ordinal": {
			column("child_personality_history", "history_created_type", of("smallint")), Adapted,
			"child_personality_history.history_created_type is of type smallint, an ordinal",
		},
		"sums of real": {
			column("topic_score", "score", of("real")), Warning,
			"topic_score.score is of type real: it has some 7 digits",
		},
		"no zone": {
			column("child_personality_history", "created_at", of("timestamp without time zone")), Warning,
			"child_personality_history.created_at has no time zone",
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := ours()
			tc.change(&d)
			all := d.Findings()
			require.Len(t, all, 1)
			require.Contains(t, all[0].String(), tc.found)
			require.NotEmpty(t, all[0].Advice)
			require.Equal(t, tc.severity, all[0].Severity)
			if err := d.Check(false); tc.severity == Refused {
				require.ErrorIs(t, err, ErrTables)
				require.ErrorContains(t, err, "(schema public): "+tc.found)
			} else {
				require.NoError(t, err)
			}
		})
	}
	for name, change := range map[string]func(*Description){
		"columns that have defaults": table("genre_score", func(t *Table) {
			t.Columns = append(t.Columns, Column{Name: "id", NotNull: true, Default: true}, Column{Name: "note"},
				Column{Name: "half", NotNull: true, Generated: true})
		}),
		"columns that only others write": table(
			"book", func(t *Table) { t.Columns = append(t.Columns, Column{Name: "isbn", NotNull: true}) }),
		"a key in another order": table(
			"genre_score", func(t *Table) { t.Unique = [][]string{{"id"}, {"genre_id", "child_profile_id"}} }),
		"partitions": table("child_personality_history", func(t *Table) { t.Kind = Partitioned }),
		"narrow ids": column("book", "id", func(c *Column) { c.Type = "integer" }),
	} {
		t.Run(name, func(t *testing.T) {
			d := ours()
			change(&d)
			require.Empty(t, d.Findings())
		})
	}
	t.Run("missing", func(t *testing.T) {
		d := ours()
		delete(d.Tables, "mbti")
		delete(d.Tables, "favorite_topic")
		require.Equal(t, []string{"mbti", "favorite_topic"}, d.Missing())
		require.NoError(t, d.Check(false))
		require.ErrorContains(t, d.Check(true), "there is no table mbti, favorite_topic")
	})
}
