package history

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Types are the ids of the sixteen types in the table mbti, in the order INTJ, INTP, INFJ ... ESFP; nil if one is
// not there, the smallest if there are several. They are passed to the statements, so that none looks one up.
type Types [16]*int64

// Missing names the types that have no id.
func (t Types) Missing() (names []string) {
	for place, id := range t {
		if id == nil {
			names = append(names, typeNames[place])
		}
	}
	return names
}

// typeNames are the types in the order of Types.
var typeNames = func() (names []string) {
	for place := range len(Types{}) {
		name := make([]byte, 4)
		for pair, letters := range []string{"IE", "NS", "TF", "JP"} {
			name[pair] = letters[place>>(3-pair)&1]
		}
		names = append(names, string(name))
	}
	return names
}()

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
		var name string
		_, err := pgx.ForEachRow(rows, []any{&id, &name}, func() error {
			place := slices.Index(typeNames, name)
			if place >= 0 && (types[place] == nil || id < *types[place]) {
				types[place] = new(id)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("reading the MBTI types: %w", err)
		}
		return nil
	})
	return types
}

const typesSQL = `SELECT id::bigint, upper(btrim(mbti::text)) FROM mbti WHERE id IS NOT NULL AND mbti IS NOT NULL`
