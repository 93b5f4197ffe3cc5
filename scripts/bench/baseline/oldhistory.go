package baseline

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const insertHistory = `INSERT INTO child_personality_history (child_profile_id, created_at, history_created_type, is_deleted, mbti_id,
	i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score)
	VALUES ($1, clock_timestamp(), 'FEEDBACK', false, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id`

// addHistory reads what a profile has come to and writes it down, a row at a time.
func (c *chunk) addHistory(ctx context.Context, profile int64) error {
	s, err := c.letters(ctx, profile)
	if err != nil {
		return err
	}
	var mbti, history int64
	if err := c.tx.QueryRow(ctx, "SELECT id FROM mbti WHERE mbti = $1", typeOf(s)).Scan(&mbti); err != nil {
		return err
	}
	args := []any{profile, mbti}
	for _, score := range s {
		args = append(args, score)
	}
	if err := c.tx.QueryRow(ctx, insertHistory, args...).Scan(&history); err != nil {
		return err
	}
	for _, of := range []string{"genre", "topic"} {
		if err := c.addFavourites(ctx, of, profile, history); err != nil {
			return err
		}
	}
	return nil
}

// typeOf takes the greater letter of each pair, and the first of N before S on a tie.
func typeOf(s [len(letters)]float64) string {
	pick := func(first, second int) byte {
		if s[first] >= s[second] {
			return letters[first]
		}
		return letters[second]
	}
	return string([]byte{pick(0, 1), pick(3, 2), pick(4, 5), pick(6, 7)})
}

func (c *chunk) addFavourites(ctx context.Context, of string, profile, history int64) error {
	type scored struct {
		ID    int64
		Score float64
	}
	rows, err := c.tx.Query(ctx, fmt.Sprintf("SELECT %s_id, score FROM %[1]s_score WHERE child_profile_id = $1", of), profile)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[scored])
	if err != nil {
		return err
	}
	sum, n, most := 0.0, 0, 0.0
	for _, s := range all {
		if s.Score > 0 {
			sum, n, most = sum+s.Score, n+1, max(most, s.Score)
		}
	}
	insert := fmt.Sprintf("INSERT INTO favorite_%s (child_profile_id, history_id, %[1]s_id) VALUES ($1, $2, $3)", of)
	for _, s := range all {
		if s.Score <= 0 || s.Score < min(sum/float64(n), most) {
			continue
		}
		if _, err := c.tx.Exec(ctx, insert, profile, history, s.ID); err != nil {
			return err
		}
	}
	return nil
}
