package searchtext_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// edit changes books and topics by chance, as an application would: in transactions of
// some statements, in the order of the ids.
func edit(ctx context.Context, pool *pgxpool.Pool, seed uint64, times int) error {
	rng := rand.New(rand.NewPCG(seed, 0))
	for range times {
		err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			book, topic := 1+rng.IntN(300), 1+rng.IntN(9)
			word := fmt.Sprintf("Word %d", rng.IntN(1000))
			for _, statement := range [][]any{
				{`UPDATE book SET title = $2 WHERE id = $1`, book, word},
				{`INSERT INTO book_topic SELECT id, $2 FROM book WHERE id = $1 ON CONFLICT DO NOTHING`, book, topic},
				{`DELETE FROM book_topic WHERE book_id = $1 AND topic_id = $2`, book, topic},
				{`UPDATE book SET author = $2, search_text = 'by somebody else' WHERE id = $1`, book, word},
				{`UPDATE topic SET name = $2 WHERE id = $1`, topic, word},
				{`DELETE FROM book WHERE id = $1`, book},
				{`INSERT INTO book (id, title) VALUES ($1, $2) ON CONFLICT DO NOTHING`, book, word},
			} {
				if rng.IntN(3) > 0 {
					continue
				}
				if _, err := tx.Exec(ctx, statement[0].(string), statement[1:]...); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil && !mayHappen(err) {
			return err
		}
	}
	return nil
}

// mayHappen says whether two editors are in each other's way, which is none of our doing.
func mayHappen(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == "40P01" || pgErr.Code == "23503")
}
