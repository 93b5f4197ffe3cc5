package history

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Types are the ids of the sixteen types in the table mbti, in the order INTJ, INTP, INFJ ... ESFP; nil if one is
// not there, the smallest if there are several. They are passed to the statements, so that none looks one up.
type Types [16]*int64

// Missing names the types that have no id.
func (t Types) Missing() (names []string) {
	for i, id := range t {
		if id != nil {
			continue
		}
		name := make([]byte, 4)
		for pair, letters := range []string{"IE", "NS", "TF", "JP"} {
			name[pair] = letters[i>>(3-pair)&1]
		}
		names = append(names, string(name))
	}
	return names
}

// ReadTypes returns the ids. It reads only.
func ReadTypes(ctx context.Context, pool *pgxpool.Pool) (Types, error) {
	var batch pgx.Batch
	types := QueueTypes(&batch)
	err := pool.SendBatch(ctx, &batch).Close()
	return *types, err
}

// QueueTypes is ReadTypes as a part of a batch. The ids are there when the batch has ended without an error.
func QueueTypes(batch *pgx.Batch) *Types {
	types := &Types{}
	batch.Queue(typesSQL).Query(func(rows pgx.Rows) error {
		var id int64
		var place int
		_, err := pgx.ForEachRow(rows, []any{&id, &place}, func() error {
			types[place] = new(id)
			return nil
		})
		if err != nil {
			return fmt.Errorf("reading the MBTI types: %w", err)
		}
		return nil
	})
	return types
}

const typesSQL = `
SELECT min(m.id), 8 * e + 4 * s + 2 * f + p
FROM mbti m, generate_series(0, 1) e, generate_series(0, 1) s, generate_series(0, 1) f, generate_series(0, 1) p
WHERE upper(btrim(m.mbti::text)) = substr('IE', e + 1, 1) || substr('NS', s + 1, 1) || substr('TF', f + 1,
	1) || substr('JP', p + 1, 1)
GROUP BY 2`
