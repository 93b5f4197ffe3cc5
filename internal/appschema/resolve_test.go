package appschema

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestChoose(t *testing.T) {
	on := func(schema string, place int, tables ...string) candidate { return candidate{schema, &place, tables} }
	off := func(schema string, tables ...string) candidate { return candidate{schema, nil, tables} }
	for name, tc := range map[string]struct {
		all    []candidate
		wanted string
		path   []string // Schema first
		err    string
	}{
		"nothing yet": {[]candidate{on("public", 1)}, "", []string{"public"}, ""},
		"found": {
			[]candidate{on("public", 1), on("app", 2, "book", "genre")},
			"",
			[]string{"app", "public"},
			"",
		},
		"never ours": {
			[]candidate{on("aggregator", 1, "book", "topic"), on("public", 2, "book")},
			"",
			[]string{"public"},
			"",
		},
		"ours before nothing": {[]candidate{on("aggregator", 1), on("public", 2)}, "", []string{"public"}, ""},
		"wanted": {
			[]candidate{on("public", 1, "book"), on("app", 2, "book")},
			"app",
			[]string{"app", "public"},
			"",
		},
		"wanted off the path": {[]candidate{on("public", 1, "book"), off("app")}, "app", []string{"app", "public"}, ""},
		"by another name":     {[]candidate{on("public", 1), on("app", 2, "bookmbti")}, "", []string{"app", "public"}, ""},
		"a book elsewhere":    {[]candidate{on("public", 1), off("shop", "book")}, "", []string{"public"}, ""},
		"two": {
			[]candidate{on("public", 1, "topic"), on("app", 2, "book", "child_profile", "genre", "mbti")},
			"", nil,
			"tables of its names are in public (topic) and app (book, child_profile, and 2 more), all on the search_path; set " +
				"postgres.schema",
		},
		"wanted and not there": {[]candidate{on("public", 1, "book")}, "App", nil, `there is no schema "App"`},
		"off the path": {
			[]candidate{on("public", 1), off("app", "book", "child_profile")},
			"", nil,
			"in app (book, child_profile), which is not on the search_path; set postgres.schema",
		},
		"in ours alone": {
			[]candidate{on("aggregator", 1, "book", "genre"), on("public", 2)},
			"", nil,
			"in aggregator (book, genre), which is the aggregator's own; move them: ALTER TABLE aggregator.book SET " +
				"SCHEMA public",
		},
		"no schema at all": {[]candidate{off("public")}, "", nil, "the search_path names no schema that the role may use"},
	} {
		t.Run(name, func(t *testing.T) {
			place, err := choose(tc.all, tc.wanted)
			if tc.err != "" {
				require.ErrorIs(t, err, ErrChoice)
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.path, place.Path)
			require.Equal(t, tc.path[0], place.Schema)
			require.Equal(t, tc.all[0].schema, place.First)
		})
	}
}

func TestSearchPath(t *testing.T) {
	require.Equal(t, `"aggregator_views", "my ""app""", "public", "pg_temp"`,
		Place{Schema: `my "app"`, Path: []string{`my "app"`, "public"}}.SearchPath())
}

// A session looks into the views before it looks into the tables, or there are none.
func TestChooseViews(t *testing.T) {
	on := func(schema string, place int, tables ...string) candidate { return candidate{schema, &place, tables} }
	for name, tc := range map[string]struct {
		all   []candidate
		views bool
	}{
		"no schema":       {[]candidate{on("public", 1, "book")}, true},
		"before":          {[]candidate{on(ViewSchema, 1, "book"), on("public", 2, "book")}, true},
		"after":           {[]candidate{on("public", 1, "book"), on(ViewSchema, 2, "book")}, false},
		"not on the path": {[]candidate{on("public", 1, "book"), {ViewSchema, nil, []string{"book"}}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			place, err := choose(tc.all, "")
			require.NoError(t, err)
			require.Equal(t, tc.views, place.Views)
			require.Equal(t, "public", place.Schema)
			require.Equal(t, "public", place.First)
			require.Equal(t, []string{"public"}, place.Path)
		})
	}
}
