package baseline

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// addScores changes the scores of a profile, a row at a time.
func (c *chunk) addScores(ctx context.Context, profile int64, s *sums) error {
	for genre, sum := range s.genres {
		if err := c.addScore(ctx, "genre", profile, genre, sum); err != nil {
			return err
		}
	}
	for topic, sum := range s.topics {
		if err := c.addScore(ctx, "topic", profile, topic, sum); err != nil {
			return err
		}
	}
	if len(s.letters) == 0 {
		return nil
	}
	return c.addLetters(ctx, profile, s.letters)
}

func (c *chunk) addScore(ctx context.Context, of string, profile, id int64, sum float64) error {
	before := 0.0
	update := fmt.Sprintf("UPDATE %s_score SET score = score + $3 WHERE child_profile_id = $1 AND %[1]s_id = $2", of)
	if !c.Bulk {
		read := fmt.Sprintf("SELECT score FROM %s_score WHERE child_profile_id = $1 AND %[1]s_id = $2", of)
		err := c.tx.QueryRow(ctx, read, profile, id).Scan(&before)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		update = strings.Replace(update, "score + $3", "$3", 1)
	}
	insert := fmt.Sprintf("INSERT INTO %s_score (child_profile_id, %[1]s_id, score) VALUES ($1, $2, $3)", of)
	return c.updateOrInsert(ctx, update, insert, profile, id, before+sum)
}

// letters are those of the columns of cumulative_mbti_score, in order.
const letters = "IESNTFJP"

const (
	readLetters = `SELECT i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score
		FROM cumulative_mbti_score WHERE child_profile_id = $1`
	writeLetters = `UPDATE cumulative_mbti_score SET i_score = $2, e_score = $3, s_score = $4, n_score = $5,
		t_score = $6, f_score = $7, j_score = $8, p_score = $9 WHERE child_profile_id = $1`
	raiseLetters = `UPDATE cumulative_mbti_score SET i_score = i_score + $2, e_score = e_score + $3, s_score = s_score + $4,
		n_score = n_score + $5, t_score = t_score + $6, f_score = f_score + $7, j_score = j_score + $8, p_score = p_score + $9
		WHERE child_profile_id = $1`
	insertLetters = `INSERT INTO cumulative_mbti_score
		(child_profile_id, i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`
)

func (c *chunk) addLetters(ctx context.Context, profile int64, sums map[byte]float64) error {
	var now [len(letters)]float64
	update := raiseLetters
	if !c.Bulk {
		var err error
		if now, err = c.letters(ctx, profile); err != nil {
			return err
		}
		update = writeLetters
	}
	args := []any{profile}
	for i := range now {
		args = append(args, now[i]+sums[letters[i]])
	}
	return c.updateOrInsert(ctx, update, insertLetters, args...)
}

// letters reads the eight scores of a profile, all zero if it has none.
func (c *chunk) letters(ctx context.Context, profile int64) (s [len(letters)]float64, err error) {
	err = c.tx.QueryRow(ctx, readLetters, profile).Scan(&s[0], &s[1], &s[2], &s[3], &s[4], &s[5], &s[6], &s[7])
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return s, err
}

// updateOrInsert inserts the row if there is none to update.
func (c *chunk) updateOrInsert(ctx context.Context, update, insert string, args ...any) error {
	tag, err := c.tx.Exec(ctx, update, args...)
	if err == nil && tag.RowsAffected() == 0 {
		_, err = c.tx.Exec(ctx, insert, args...)
	}
	return err
}
