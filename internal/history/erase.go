package history

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/deadletter"
	"aggregator/internal/postgres"
)

// Erased is what Erase has removed, or would remove.
type Erased struct {
	Journal int64 // rows of the journal
	Letters deadletter.Erased
}

// Erase removes what the aggregator's own tables say of a profile, beside its marks: the journal, and what its dead
// letters hold. Durable, and all of it or nothing. With dryRun it only counts. The profile need not exist any more.
// Events of the profile that are still in Redis are applied afterwards, and kept again. Safe to repeat.
func Erase(ctx context.Context, pool *pgxpool.Pool, profileID int64, dryRun bool) (done Erased, err error) {
	if dryRun {
		err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, takeYourTime); err != nil {
				return err
			}
			if done.Letters, err = deadletter.CountErasable(ctx, tx, profileID); err != nil {
				return err
			}
			return tx.QueryRow(ctx, `SELECT count(*) FROM aggregator.journal WHERE child_profile_id = $1`, profileID).
				Scan(&done.Journal)
		})
	} else {
		err = postgres.Durably(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, takeYourTime); err != nil {
				return err
			}
			if done.Letters, err = deadletter.Erase(ctx, tx, profileID); err != nil {
				return err
			}
			tag, err := tx.Exec(ctx, `DELETE FROM aggregator.journal WHERE child_profile_id = $1`, profileID)
			done.Journal = tag.RowsAffected()
			return err
		})
	}
	if err != nil {
		return Erased{}, fmt.Errorf("erasing profile %d: %w", profileID, err)
	}
	return done, nil
}

// All dead letters are read: those of a profile have no index.
const takeYourTime = `SELECT set_config('statement_timeout', '0', true), set_config('enable_seqscan', 'on', true)`
