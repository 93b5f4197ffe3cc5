package doctor

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/appschema"
)

// someRows is how many rows of a table are looked at. What is in the others may be wrong, too.
const someRows = 100_000

// tables looks at the tables as they are described, and whether rows are in them that no event can be counted
// with. Tables that are missing are a problem unless a migration is yet to make them.
func (r *report) tables(ctx context.Context, pool *pgxpool.Pool, d appschema.Description) {
	before := len(r.findings)
	r.described(d, true)
	for _, look := range []func(context.Context, *pgxpool.Pool, appschema.Description) error{
		r.partitions, r.contents,
	} {
		if err := look(ctx, pool, d); err != nil {
			r.notSeen("tables", err)
		}
	}
	if len(r.findings) == before {
		r.ok("tables", "all are there, in schema %s, with the columns and types that the service needs; contents by "+
			"the first %d rows of each", d.Schema, someRows)
	}
}

// described says what is wrong with the tables by their description alone.
func (r *report) described(d appschema.Description, missing bool) {
	if names := d.Missing(); missing && len(names) > 0 {
		r.add("tables", Problem, "there is no table "+strings.Join(names, ", ")+" in schema "+d.Schema,
			"is that the schema of the application? postgres.schema names another; tables that were dropped are created again "+
				"as in internal/postgres/migrations/00001")
	}
	if names := d.Stale(); missing && len(names) > 0 {
		r.add("tables", Problem, "views that adapt the tables are missing or out of date: "+strings.Join(names, ", "),
			"aggregator migrate up")
	}
	var adapted []appschema.Finding
	for _, f := range d.Findings() {
		if f.Severity == appschema.Adapted {
			adapted = append(adapted, f)
		}
	}
	for _, f := range merged(adapted) {
		r.ok("tables", "%s", f.Found)
	}
	rest := slices.DeleteFunc(d.Findings(), func(f appschema.Finding) bool { // the check of indexes says how to make a key
		return f.Severity == appschema.Adapted || strings.HasPrefix(f.Found, "has no unique key")
	})
	for _, f := range merged(rest) {
		verdict := Problem
		if f.Severity == appschema.Warning {
			verdict = Warning
		}
		r.add("tables", verdict, f.Found, f.Advice)
	}
	var ours, others []string
	for _, e := range d.Elsewhere {
		found := fmt.Sprintf("%s.%s (%s)", e.Schema, e.Table, estimate(e.Rows))
		if e.Schema == appschema.Ours {
			ours = append(ours, found)
		} else {
			others = append(others, found)
		}
	}
	if len(ours) > 0 {
		r.add("tables", Warning, "tables of the application's names are in the schema of the aggregator, and not used: "+
			strings.Join(ours, ", "), "drop them if they are empty: an earlier version may have made them there")
	}
	if len(others) > 0 {
		r.add("tables", Warning, "tables of one name: those of schema "+d.Schema+" are used, and there are "+
			strings.Join(others, ", "), "make sure that schema "+d.Schema+" is the application's: postgres.schema names another")
	}
	if d.Encoding != "UTF8" {
		r.add("tables", Warning, "the encoding of the database is "+d.Encoding+": it cannot hold every character of "+
			"an event's text, such as that of a dead letter",
			"create the database again with ENCODING 'UTF8'")
	}
}

// merged are the findings with one for all tables and columns of which the same is found; Found begins with their
// names.
func merged(all []appschema.Finding) (few []appschema.Finding) {
	at := map[string]int{}
	for _, f := range all {
		i, seen := at[f.Found]
		if !seen {
			at[f.Found] = len(few)
			f.Found = f.Name()
			few = append(few, f)
			continue
		}
		few[i].Found += ", " + f.Name()
		if !strings.Contains(few[i].Advice, f.Advice) {
			few[i].Advice += "; " + f.Advice
		}
	}
	for found, i := range at {
		if strings.Contains(few[i].Found, ", ") {
			found = plural.ReplaceAllStringFunc(
				found, func(verb string) string { return map[string]string{"is": "are", "has": "have"}[verb] })
		}
		few[i].Found += " " + found
	}
	return few
}

var plural = regexp.MustCompile(`^(is|has)\b`)

func estimate(rows int64) string {
	if rows < 0 {
		return "rows unknown"
	}
	return fmt.Sprintf("some %d rows", rows)
}

// partitions looks whether a history row of now, and of a month from now, has a partition to go to.
func (r *report) partitions(ctx context.Context, pool *pgxpool.Pool, d appschema.Description) error {
	if d.Tables["child_personality_history"].Kind != appschema.Partitioned {
		return nil
	}
	// For any other key it takes more than the time to tell.
	history := d.Tables["child_personality_history"]
	rows, _ := pool.Query(ctx, `SELECT coalesce(string_agg(CASE WHEN i.inhrelid IS NOT NULL
        THEN coalesce(pg_get_partition_constraintdef(i.inhrelid), 'true') END, ' OR '), 'false'),
    format_type(a.atttypid, a.atttypmod)
FROM pg_partitioned_table p JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
LEFT JOIN pg_inherits i ON i.inhparent = p.partrelid
WHERE p.partrelid = to_regclass($1) AND p.partstrat = 'r' AND p.partnatts = 1
    AND a.attname = 'created_at'
GROUP BY a.atttypid, a.atttypmod`, history.SQL()) // its error is also that of the rows
	var bounds, is string
	_, err := pgx.ForEachRow(rows, []any{&bounds, &is}, func() error { return nil })
	if err != nil || bounds == "" {
		return err
	}
	var now, later bool
	err = pool.QueryRow(ctx, fmt.Sprintf(`SELECT bool_or(fits) FILTER (WHERE n = 0), bool_or(fits) FILTER (WHERE n = 1)
FROM (SELECT n, (%s) IS TRUE AS fits
    FROM (SELECT n, (now() + n * interval '1 month')::%s AS created_at FROM generate_series(0, 1) n) t) f`,
		bounds, is)).Scan(&now, &later)
	switch {
	case err != nil:
		return err
	case !now:
		r.add("tables", Problem, "child_personality_history has no partition for the current time: no event can be applied",
			"create one, and those for the coming months")
	case !later:
		r.add("tables", Warning, "child_personality_history has no partition for a month from now",
			"create those for the coming months, or a DEFAULT one")
	}
	return nil
}

// contents looks for rows of the catalogue that an event is not counted with as they seem to say.
func (r *report) contents(ctx context.Context, pool *pgxpool.Pool, _ appschema.Description) error {
	for _, look := range []struct{ tables, sql, found, advice string }{
		{
			"book_topic",
			`SELECT book_id::text FROM (SELECT book_id, topic_id FROM book_topic LIMIT $1) t GROUP BY book_id, topic_id
				HAVING count(*) > 1 AND count(book_id) > 0 AND count(topic_id) > 0`,
			"a topic is there more than once in book_topic for the books %s: it counts once",
			"remove them, and add a primary key (book_id, topic_id)",
		},
		{
			"book_topic",
			`SELECT coalesce(book_id::text, 'NULL') FROM (SELECT book_id, topic_id FROM book_topic LIMIT $1) t
				WHERE topic_id IS NULL OR book_id IS NULL`,
			"book_topic has a NULL for the books %s: the row is ignored",
			"DELETE FROM book_topic WHERE topic_id IS NULL OR book_id IS NULL",
		},
		{
			"book_mbti",
			`SELECT book_id::text FROM (SELECT book_id, mbti_id FROM book_mbti LIMIT $1) t WHERE book_id IS NOT NULL
				GROUP BY book_id HAVING count(DISTINCT mbti_id) > 1`,
			"the books %s have several types in book_mbti: that with the smallest id in mbti counts",
			"leave one of them, and add a primary key (book_id)",
		},
		{
			"mbti",
			`SELECT coalesce(mbti, 'NULL') FROM (SELECT mbti::text FROM mbti LIMIT $1) m
				WHERE (mbti ~ '^[IE][NS][TF][JP]$') IS NOT TRUE`,
			"table mbti has values that are none of the sixteen types: %s: they count for no letter",
			"write them in four capital letters, or remove them",
		},
	} {
		rows, _ := pool.Query(ctx, `SELECT x FROM (`+look.sql+`) f (x) ORDER BY x LIMIT 6`,
			someRows) // its error is also that of the rows
		some, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("%s: %w", look.tables, err)
		}
		if len(some) > 5 {
			some[5] = "and more"
		}
		if len(some) > 0 {
			r.add("tables", Warning, fmt.Sprintf(look.found, strings.Join(some, ", ")), look.advice)
		}
	}
	return nil
}
