package catalogue

import (
	"context"
	"fmt"
	"iter"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// copier fills tables by COPY. After the first error it does nothing more.
type copier struct {
	ctx context.Context
	tx  pgx.Tx
	err error
}

// into copies the rows that produce adds, and counts them.
func (c *copier) into(table string, columns []string, produce func(add func(...any))) int64 {
	if c.err != nil {
		return 0
	}
	next, stop := iter.Pull(func(yield func([]any) bool) {
		more := true
		produce(func(row ...any) { more = more && yield(row) })
	})
	defer stop()
	rows, err := c.tx.CopyFrom(c.ctx, pgx.Identifier{table}, columns, pgx.CopyFromFunc(func() ([]any, error) {
		row, _ := next()
		return row, nil // no row ends the copy
	}))
	if err != nil {
		c.err = fmt.Errorf("filling %s: %w", table, err)
	}
	return rows
}

// numbered copies n rows that have an id and a name made of it.
func (c *copier) numbered(table, column string, n int64, name string) {
	c.into(table, []string{"id", column}, func(add func(...any)) {
		for id := int64(1); id <= n; id++ {
			add(id, name+strconv.FormatInt(id, 10))
		}
	})
}

// exec fills a table from those copied before.
func (c *copier) exec(table, statement string, args ...any) {
	if c.err != nil {
		return
	}
	if _, err := c.tx.Exec(c.ctx, statement, args...); err != nil {
		c.err = fmt.Errorf("filling %s: %w", table, err)
	}
}

// advance moves the sequence of the table's id past the rows copied, for rows that are
// inserted without an id later.
func (c *copier) advance(table string) {
	if c.err != nil {
		return
	}
	_, err := c.tx.Exec(c.ctx, "SELECT setval(pg_get_serial_sequence($1, 'id'), (SELECT max(id) FROM "+table+"))", table)
	if err != nil {
		c.err = fmt.Errorf("advancing the ids of %s: %w", table, err)
	}
}
