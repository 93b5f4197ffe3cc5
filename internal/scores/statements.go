package scores

import (
	"fmt"
	"math/bits"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

// Queue puts the statements that add the deltas onto the batch of one transaction. The
// deltas must be of different profiles, in rising order of their ids. Rows that do not
// exist are created. It sends nothing; errors come from whoever sends the batch.
func Queue(batch *pgx.Batch, deltas []Delta) {
	queueSums(batch, genreTable, deltas, func(d Delta) []Sum { return d.Genres })
	queueSums(batch, topicTable, deltas, func(d Delta) []Sum { return d.Topics })
	queueMBTI(batch, deltas)
}

func queueSums(batch *pgx.Batch, t *table, deltas []Delta, of func(Delta) []Sum) {
	n := 0
	for _, d := range deltas {
		n += len(of(d))
	}
	rows := newRows(t, batch, n)
	for _, d := range deltas {
		for _, sum := range of(d) {
			rows.add(d.ProfileID, sum.ID, sum.Value)
		}
	}
	rows.flush()
}

func queueMBTI(batch *pgx.Batch, deltas []Delta) {
	n := 0
	for _, d := range deltas {
		if d.Typed {
			n++
		}
	}
	rows := newRows(mbtiTable, batch, n)
	for _, d := range deltas {
		if d.Typed {
			m := d.MBTI
			rows.add(d.ProfileID, m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7])
		}
	}
	rows.flush()
}

// maxRows is how many rows one statement takes: with nine values a row it stays well
// below the 65,535 parameters that the protocol allows.
const maxRows = 1024

// A statement exists for each power of two of rows, so that a handful of prepared
// statements serves all; rows that are left over are null, match nothing and are not
// inserted.
type table struct {
	name   string
	keys   []string
	scores []string

	mu         sync.Mutex
	statements [11]string // for 1, 2, 4, ... 1024 rows
}

var (
	genreTable = &table{name: "genre_score", keys: []string{"child_profile_id", "genre_id"}, scores: []string{"score"}}
	topicTable = &table{name: "topic_score", keys: []string{"child_profile_id", "topic_id"}, scores: []string{"score"}}
	mbtiTable  = &table{
		name: "cumulative_mbti_score", keys: []string{"child_profile_id"},
		scores: []string{"i_score", "e_score", "s_score", "n_score", "t_score", "f_score", "j_score", "p_score"},
	}
)

// statement is the one for at least n rows, and for how many it is.
func (t *table) statement(n int) (string, int) {
	i := bits.Len(uint(n - 1))
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.statements[i] == "" {
		t.statements[i] = t.build(1 << i)
	}
	return t.statements[i], 1 << i
}

// build writes the statement: rows that exist are updated, the others inserted; if the
// application inserted one of them meanwhile, the insert adds to it.
func (t *table) build(n int) string {
	columns := append(append([]string{}, t.keys...), t.scores...)
	each := func(list []string, sep, format string) string {
		parts := make([]string, len(list))
		for i, name := range list {
			parts[i] = strings.ReplaceAll(format, "?", name)
		}
		return strings.Join(parts, sep)
	}
	var values strings.Builder
	for row := range n {
		if row > 0 {
			values.WriteString(", ")
		}
		values.WriteByte('(')
		for i := range columns {
			if i > 0 {
				values.WriteString(", ")
			}
			fmt.Fprintf(&values, "$%d", row*len(columns)+i+1)
			if row == 0 { // the types of the first row are those of all
				if i < len(t.keys) {
					values.WriteString("::bigint")
				} else {
					values.WriteString("::float8")
				}
			}
		}
		values.WriteByte(')')
	}
	return strings.NewReplacer(
		"{table}", t.name,
		"{columns}", strings.Join(columns, ", "),
		"{values}", values.String(),
		"{keys}", strings.Join(t.keys, ", "),
		"{same}", each(t.keys, " AND ", "s.? = d.?"),
		"{known}", each(t.keys, " AND ", "u.? = d.?"),
		"{returning}", each(t.keys, ", ", "s.?"),
		"{set}", each(t.scores, ", ", "? = s.? + d.?"),
		"{merge}", each(t.scores, ", ", "? = s.? + excluded.?"),
	).Replace(`WITH delta ({columns}) AS (VALUES {values}),
updated AS (
    UPDATE {table} s SET {set} FROM delta d WHERE {same} RETURNING {returning}
)
INSERT INTO {table} AS s ({columns})
SELECT {columns} FROM delta d
WHERE d.child_profile_id IS NOT NULL AND NOT EXISTS (SELECT FROM updated u WHERE {known})
ON CONFLICT ({keys}) DO UPDATE SET {merge}`)
}

// rows collects the values of rows and queues a statement whenever one is full.
type rows struct {
	table *table
	batch *pgx.Batch
	left  int // rows still to come
	args  []any
	width int
}

func newRows(t *table, batch *pgx.Batch, n int) *rows {
	return &rows{table: t, batch: batch, left: n, width: len(t.keys) + len(t.scores)}
}

func (r *rows) add(values ...any) {
	if r.args == nil {
		_, n := r.table.statement(min(r.left, maxRows))
		r.args = make([]any, 0, n*r.width)
	}
	r.args = append(r.args, values...)
	r.left--
	if len(r.args) == maxRows*r.width {
		r.flush()
	}
}

func (r *rows) flush() {
	if len(r.args) == 0 {
		return
	}
	sql, n := r.table.statement(len(r.args) / r.width)
	for len(r.args) < n*r.width {
		r.args = append(r.args, nil)
	}
	r.batch.Queue(sql, r.args...)
	r.args = nil
}
