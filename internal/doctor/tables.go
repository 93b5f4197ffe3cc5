package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// written are the columns that the service and its commands read or write in tables of the application.
var written = map[string]string{
	"child_profile":         "id",
	"genre":                 "id, name",
	"topic":                 "id, name",
	"mbti":                  "id, mbti",
	"book":                  "id, title, author, publisher, genre_id, search_text",
	"book_topic":            "book_id, topic_id",
	"book_mbti":             "book_id, mbti_id",
	"genre_score":           "child_profile_id, genre_id, score",
	"topic_score":           "child_profile_id, topic_id, score",
	"cumulative_mbti_score": "child_profile_id, " + letterScores,
	"child_personality_history": "id, child_profile_id, created_at, history_created_type, is_deleted, " +
		"deleted_at, mbti_id, " +
		letterScores,
	"favorite_genre": "child_profile_id, history_id, genre_id",
	"favorite_topic": "child_profile_id, history_id, topic_id",
}

const letterScores = "i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score"

// someRows is how many rows of a table are looked at. What is in the others may be wrong, too.
const someRows = 100_000

// tables looks at the tables where the session finds them: what there is of them, of which types, and
// whether rows are in them that no event can be counted with.
func (r *report) tables(ctx context.Context, pool *pgxpool.Pool) {
	before := len(r.findings)
	for _, look := range []func(context.Context, *pgxpool.Pool) error{
		r.places, r.columns, r.encoding, r.partitions, r.nullScores, r.contents,
	} {
		if err := look(ctx, pool); err != nil {
			r.notSeen("tables", err)
		}
	}
	if len(r.findings) == before {
		r.ok("tables", "all are there, with the columns and types that the service needs; contents by the first "+
			"%d rows of each", someRows)
	}
}

// places looks in which schema each table is found, as what, and whether another schema has one of its name.
func (r *report) places(ctx context.Context, pool *pgxpool.Pool) error {
	rows, _ := pool.Query(ctx, `SELECT t, coalesce(n.nspname::text, ''), coalesce(c.relkind::text, ''),
    coalesce(c.reltuples, -1)::bigint,
    coalesce((SELECT string_agg(format('%s (%s)', on_.nspname, CASE WHEN o.reltuples < 0 THEN 'rows unknown'
            ELSE 'some ' || o.reltuples::bigint || ' rows' END), ', ' ORDER BY on_.nspname)
        FROM pg_class o JOIN pg_namespace on_ ON on_.oid = o.relnamespace
        WHERE o.relname = split_part(t, '.', 1) AND o.oid <> c.oid AND o.relkind IN ('r', 'p', 'v', 'm', 'f')
            AND on_.nspname !~ '^(pg_|information_schema$)'), '')
FROM unnest($1::text[]) t LEFT JOIN pg_class c ON c.oid = to_regclass(t)
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY t`, touched) // its error is also that of the rows
	var table, schema, kind, others string
	var count int64
	var missing, foreign, inOurs, shadows []string
	_, err := pgx.ForEachRow(rows, []any{&table, &schema, &kind, &count, &others}, func() error {
		application := written[table] != ""
		switch {
		case schema == "":
			missing = append(missing, table)
			return nil
		case application && schema == "aggregator":
			inOurs = append(inOurs, table)
		}
		switch kind {
		case "v", "m":
			foreign = append(foreign, table+" is a view")
		case "f":
			foreign = append(foreign, table+" is a foreign table")
		}
		if application && others != "" {
			shadows = append(shadows, fmt.Sprintf("%s is that of schema %s (%s), and there is one in %s", table, schema,
				estimate(count), others))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		r.add("tables", Problem, "there is no table "+strings.Join(missing, ", "),
			"is the schema of the application in the search_path of the role? aggregator migrate up creates what is missing")
	}
	if len(inOurs) > 0 {
		r.add("tables", Problem, "tables of the application are found in the schema of the aggregator: "+
			strings.Join(inOurs, ", "),
			"set the search_path of the role to the schema of the application: ALTER ROLE ... SET search_path = "+
				"public; drop those in schema aggregator if they are empty")
	}
	if len(shadows) > 0 {
		r.add("tables", Warning, "tables with the same name: "+strings.Join(shadows, "; "),
			"make sure that those used are the application's, or change the search_path of the role")
	}
	if len(foreign) > 0 {
		r.add("tables", Warning, strings.Join(foreign, ", ")+": the service does not notice its changes, "+
			"and each look-up may read all of it",
			"connect to the database that has the table")
	}
	return nil
}

func estimate(rows int64) string {
	if rows < 0 {
		return "rows unknown"
	}
	return fmt.Sprintf("some %d rows", rows)
}

// columns looks for those that are missing, and those of a type that cannot hold what is written.
func (r *report) columns(ctx context.Context, pool *pgxpool.Pool) error {
	var tables, names []string
	for _, table := range slices.Sorted(maps.Keys(written)) {
		for column := range strings.SplitSeq(written[table], ", ") {
			tables, names = append(tables, table), append(names, column)
		}
	}
	rows, _ := pool.Query(ctx, `SELECT w.t, w.c,
    coalesce(format_type(coalesce(nullif(y.typbasetype, 0), y.oid), NULL), ''),
    current_setting('timezone')
FROM unnest($1::text[], $2::text[]) w (t, c)
LEFT JOIN pg_attribute a ON a.attrelid = to_regclass(w.t) AND a.attname = w.c AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_type y ON y.oid = a.atttypid
WHERE to_regclass(w.t) IS NOT NULL ORDER BY w.t, w.c`, tables, names) // its error is also that of the rows
	var table, column, is, zone string
	var missing, local []string
	sums := map[string][]string{}
	_, err := pgx.ForEachRow(rows, []any{&table, &column, &is, &zone}, func() error {
		name := table + "." + column
		switch {
		case is == "":
			missing = append(missing, name)
		case is == "timestamp without time zone":
			local = append(local, name)
		case strings.HasSuffix(column, "score") && is != "double precision":
			sums[is] = append(sums[is], name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		r.add("tables", Problem, "there is no column "+strings.Join(missing, ", "),
			"is the schema of the application in the search_path of the role? else add the columns, as in "+
				"internal/postgres/migrations/00001")
	}
	for _, is := range slices.Sorted(maps.Keys(sums)) {
		r.add("tables", Warning, fmt.Sprintf("%s, of type %s: %s", strings.Join(sums[is], ", "), is, limits(is)),
			"ALTER TABLE ... ALTER COLUMN ... TYPE double precision, which rewrites the table")
	}
	if len(local) > 0 {
		r.add("tables", Warning, fmt.Sprintf("%s have no time zone: the service writes and reads them in the zone %s",
			strings.Join(local, ", "), zone),
			"if the application has another zone: ALTER TABLE ... ALTER COLUMN ... TYPE timestamptz USING ... AT "+
				"TIME ZONE 'the application''s zone'")
	}
	return nil
}

// limits says what is wrong with a type for sums.
func limits(of string) string {
	switch of {
	case "real":
		return "it has some 7 digits, and a score of 2^25 no longer grows by 2"
	case "smallint", "integer", "bigint":
		return "a fraction of a weight is rounded, so that sums depend on how events come together"
	case "numeric":
		return "sums are slower, and those of a fixed scale are rounded"
	default:
		return "it is not the one that sums are made with"
	}
}

func (r *report) encoding(ctx context.Context, pool *pgxpool.Pool) error {
	var encoding string
	if err := pool.QueryRow(ctx, `SELECT current_setting('server_encoding')`).Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		r.add("tables", Warning, "the encoding of the database is "+encoding+": it cannot hold every character of "+
			"an event's text, such as that of a dead letter",
			"recreate the database with ENCODING 'UTF8'")
	}
	return nil
}

// partitions looks whether a history row of now, and of a month from now, has a partition to go to.
func (r *report) partitions(ctx context.Context, pool *pgxpool.Pool) error {
	// For any other key it takes more than the time to tell.
	rows, _ := pool.Query(ctx, `SELECT coalesce(string_agg(CASE WHEN i.inhrelid IS NOT NULL
        THEN coalesce(pg_get_partition_constraintdef(i.inhrelid), 'true') END, ' OR '), 'false'),
    format_type(a.atttypid, a.atttypmod)
FROM pg_partitioned_table p JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
LEFT JOIN pg_inherits i ON i.inhparent = p.partrelid
WHERE p.partrelid = to_regclass('child_personality_history') AND p.partstrat = 'r' AND p.partnatts = 1
    AND a.attname = 'created_at'
GROUP BY a.atttypid, a.atttypmod`) // its error is also that of the rows
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

// nullScores looks for scores to which nothing can be added, where columns allow them.
func (r *report) nullScores(ctx context.Context, pool *pgxpool.Pool) error {
	rows, _ := pool.Query(ctx, `SELECT attrelid::regclass::text, array_agg(attname::text ORDER BY attnum)
FROM pg_attribute WHERE attrelid IN (to_regclass('genre_score'), to_regclass('topic_score'),
        to_regclass('cumulative_mbti_score'))
    AND attname LIKE '%score' AND attnum > 0 AND NOT attnotnull AND NOT attisdropped
GROUP BY attrelid ORDER BY 1`) // its error is also that of the rows
	nullable := map[string][]string{}
	var table string
	var names []string
	_, err := pgx.ForEachRow(rows, []any{&table, &names}, func() error {
		nullable[table] = slices.Clone(names)
		return nil
	})
	if err != nil {
		return err
	}
	for _, table := range slices.Sorted(maps.Keys(nullable)) {
		var quoted, defaults []string
		for _, column := range nullable[table] {
			name := pgx.Identifier{column}.Sanitize()
			quoted = append(quoted, name)
			defaults = append(defaults, fmt.Sprintf("%[1]s = coalesce(%[1]s, 0)", name))
		}
		columns := strings.Join(quoted, ", ")
		var some int
		err := pool.QueryRow(ctx, fmt.Sprintf(`SELECT count(*) FROM (SELECT %[1]s FROM %[2]s LIMIT $1) s
WHERE num_nulls(%[1]s) > 0`, columns, table),
			someRows).Scan(&some)
		if err != nil {
			return err
		}
		if some > 0 {
			r.add("tables", Problem, fmt.Sprintf("%d rows of the first %d of %s have a score that is NULL: events "+
				"add nothing to it", some, someRows, table),
				fmt.Sprintf("UPDATE %s SET %s WHERE num_nulls(%s) > 0", table, strings.Join(defaults, ", "), columns))
		}
	}
	return nil
}

// contents looks for rows of the catalogue that an event is not counted with as they seem to say.
func (r *report) contents(ctx context.Context, pool *pgxpool.Pool) error {
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
			"the books %s have several types in book_mbti: one of them counts",
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
