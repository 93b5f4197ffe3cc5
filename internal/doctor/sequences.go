package doctor

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/appschema"
)

// sequences looks whether the ids run out that the service's inserts take: less than a tenth of what the
// sequence, or the column's type, can give is left. Each call of nextval is one id, whatever its increment.
func (r *report) sequences(ctx context.Context, pool *pgxpool.Pool, d appschema.Description) {
	var names []string
	for _, name := range []string{
		"genre_score", "topic_score", "cumulative_mbti_score", "child_personality_history", "favorite_genre",
		"favorite_topic",
	} {
		names = append(names, d.Tables[name].SQL(), pgx.Identifier{appschema.ViewSchema, name}.Sanitize())
	}
	// A column has a sequence of its own (serial, identity), or one that its default names.
	rows, _ := pool.Query(ctx, `
WITH filled AS (
    SELECT a.attrelid, a.attname, a.atttypid, p.objid AS sequence
    FROM unnest($1::text[]) w (t) JOIN pg_attribute a ON a.attrelid = to_regclass(w.t)
    JOIN pg_depend p ON p.classid = 'pg_class'::regclass AND p.refclassid = 'pg_class'::regclass
        AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum AND p.deptype IN ('a', 'i')
    UNION
    SELECT a.attrelid, a.attname, a.atttypid, p.refobjid
    FROM unnest($1::text[]) w (t) JOIN pg_attribute a ON a.attrelid = to_regclass(w.t)
    JOIN pg_attrdef e ON e.adrelid = a.attrelid AND e.adnum = a.attnum
    JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = e.oid AND p.refclassid = 'pg_class'::regclass
), used AS (
    SELECT f.attrelid::regclass::text || '.' || f.attname AS id, s.seqrelid::regclass::text AS sequence,
        CASE WHEN has_sequence_privilege(s.seqrelid, 'USAGE, SELECT') THEN pg_sequence_last_value(s.seqrelid) END
            AS last,
        least(s.seqmax, CASE f.atttypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 END)
            AS most
    FROM filled f JOIN pg_sequence s ON s.seqrelid = f.sequence AND s.seqincrement > 0 AND NOT s.seqcycle
)
SELECT id, sequence, last, most FROM used WHERE last > most - most / 10
ORDER BY 1`, names) // its error is also that of the rows
	var id, sequence string
	var last, most int64
	_, err := pgx.ForEachRow(rows, []any{&id, &sequence, &last, &most}, func() error {
		r.add("sequences", Warning,
			fmt.Sprintf("%s runs out: the last id of %s is %d of %d; after that a drain halts", id, sequence, last, most),
			"change the column to bigint, and the sequence too: ALTER TABLE ... ALTER COLUMN ... TYPE bigint (it rewrites "+
				"the table), ALTER SEQUENCE ... AS bigint")
		return nil
	})
	if err != nil {
		r.notSeen("sequences", err)
	}
}
