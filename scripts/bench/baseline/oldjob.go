package baseline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// OldJob drains a list as the batch job did that the aggregator replaces: it reads the whole list at once, works
// through it in chunks of 100, a transaction each, and removes what a chunk held from the list one by one. Its
// statements are those of the original, one query for each row that is read or written; the domain rules are ours,
// so that the outcome can be compared. The original ran on a JVM with JPA; this has none of that, and prepared
// statements.
func OldJob(ctx context.Context, list *redis.Client, key, url string) error {
	db, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer db.Close(ctx)
	texts, err := list.LRange(ctx, key, 0, -1).Result()
	if err != nil {
		return err
	}
	for some := range slices.Chunk(texts, 100) {
		err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error { return oldJob{tx}.write(ctx, some) })
		if err != nil {
			return err
		}
		for _, text := range some {
			if err := list.LRem(ctx, key, 1, text).Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// oldJob is its transaction.
type oldJob struct{ pgx.Tx }

type book struct {
	genre  int64
	topics []int64
	mbti   string
}

// write applies the events of a chunk.
func (j oldJob) write(ctx context.Context, texts []string) error {
	var changed []int64 // profiles as they first appear
	for _, text := range texts {
		var profile, id int64
		var action string
		if _, err := fmt.Sscanf(text, "%d:%d:%s", &profile, &id, &action); err != nil {
			return fmt.Errorf("%q is no event: %w", text, err)
		}
		b, err := j.look(ctx, profile, id)
		if err != nil {
			return err
		}
		weight := -2.0
		if action == "LIKE" {
			weight = 2
		}
		if err := j.addScore(ctx, "genre", profile, b.genre, weight); err != nil {
			return err
		}
		for _, topic := range b.topics {
			if err := j.addScore(ctx, "topic", profile, topic, weight); err != nil {
				return err
			}
		}
		if err := j.addLetters(ctx, profile, b.mbti, weight); err != nil {
			return err
		}
		if !slices.Contains(changed, profile) {
			changed = append(changed, profile)
		}
	}
	for _, profile := range changed {
		if err := j.addHistory(ctx, profile); err != nil {
			return err
		}
	}
	return nil
}

// look reads the profile and the book of an event.
func (j oldJob) look(ctx context.Context, profile, id int64) (b book, err error) {
	var name, title string
	if err = j.QueryRow(ctx, "SELECT name FROM child_profile WHERE id = $1", profile).Scan(&name); err != nil {
		return b, fmt.Errorf("profile %d: %w", profile, err)
	}
	if err = j.QueryRow(ctx, "SELECT title, genre_id FROM book WHERE id = $1", id).Scan(&title, &b.genre); err != nil {
		return b, fmt.Errorf("book %d: %w", id, err)
	}
	rows, err := j.Query(ctx, "SELECT topic_id FROM book_topic WHERE book_id = $1", id)
	if err != nil {
		return b, err
	}
	if b.topics, err = pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil {
		return b, err
	}
	mbti := "SELECT m.mbti FROM book_mbti b JOIN mbti m ON m.id = b.mbti_id WHERE b.book_id = $1"
	if err = j.QueryRow(ctx, mbti, id).Scan(&b.mbti); errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return b, err
}

func (j oldJob) addScore(ctx context.Context, of string, profile, id int64, weight float64) error {
	var score float64
	read := fmt.Sprintf("SELECT score FROM %s_score WHERE child_profile_id = $1 AND %[1]s_id = $2", of)
	if err := j.QueryRow(ctx, read, profile, id).Scan(&score); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	update := fmt.Sprintf("UPDATE %s_score SET score = $3 WHERE child_profile_id = $1 AND %[1]s_id = $2", of)
	insert := fmt.Sprintf("INSERT INTO %s_score (child_profile_id, %[1]s_id, score) VALUES ($1, $2, $3)", of)
	return j.updateOrInsert(ctx, update, insert, profile, id, score+weight)
}

func (j oldJob) addLetters(ctx context.Context, profile int64, mbti string, weight float64) error {
	scores, err := j.letters(ctx, profile)
	if err != nil || mbti == "" {
		return err
	}
	args := []any{profile}
	for i, score := range scores {
		if strings.IndexByte(mbti, letters[i]) >= 0 {
			score += weight
		}
		args = append(args, score)
	}
	return j.updateOrInsert(ctx, updateLetters, insertLetters, args...)
}

// letters are those of the columns of cumulative_mbti_score, in order.
const letters = "IESNTFJP"

const (
	letterColumns = `i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score`
	readLetters   = `SELECT ` + letterColumns + ` FROM cumulative_mbti_score WHERE child_profile_id = $1`
	updateLetters = `UPDATE cumulative_mbti_score SET i_score = $2, e_score = $3, s_score = $4, n_score = $5,
		t_score = $6, f_score = $7, j_score = $8, p_score = $9 WHERE child_profile_id = $1`
	insertLetters = `INSERT INTO cumulative_mbti_score (child_profile_id, ` + letterColumns + `)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`
	insertHistory = `INSERT INTO child_personality_history
		(child_profile_id, created_at, history_created_type, is_deleted, mbti_id, ` + letterColumns + `)
		VALUES ($1, clock_timestamp(), 'FEEDBACK', false, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id`
)

// letters reads the eight scores of a profile, all zero if it has none.
func (j oldJob) letters(ctx context.Context, profile int64) (s [len(letters)]float64, err error) {
	err = j.QueryRow(ctx, readLetters, profile).Scan(&s[0], &s[1], &s[2], &s[3], &s[4], &s[5], &s[6], &s[7])
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return s, err
}

// updateOrInsert inserts the row if there is none to update.
func (j oldJob) updateOrInsert(ctx context.Context, update, insert string, args ...any) error {
	tag, err := j.Exec(ctx, update, args...)
	if err == nil && tag.RowsAffected() == 0 {
		_, err = j.Exec(ctx, insert, args...)
	}
	return err
}

// addHistory reads what a profile has come to and writes it down, a row at a time.
func (j oldJob) addHistory(ctx context.Context, profile int64) error {
	s, err := j.letters(ctx, profile)
	if err != nil {
		return err
	}
	// The greater letter of each pair, and the first of N before S on a tie.
	var mbtiType []byte
	for _, pair := range [][2]int{{0, 1}, {3, 2}, {4, 5}, {6, 7}} {
		letter := letters[pair[0]]
		if s[pair[1]] > s[pair[0]] {
			letter = letters[pair[1]]
		}
		mbtiType = append(mbtiType, letter)
	}
	var mbti, history int64
	if err := j.QueryRow(ctx, "SELECT id FROM mbti WHERE mbti = $1", string(mbtiType)).Scan(&mbti); err != nil {
		return err
	}
	args := []any{profile, mbti}
	for _, score := range s {
		args = append(args, score)
	}
	if err := j.QueryRow(ctx, insertHistory, args...).Scan(&history); err != nil {
		return err
	}
	return errors.Join(j.addFavorites(ctx, "genre", profile, history), j.addFavorites(ctx, "topic", profile, history))
}

func (j oldJob) addFavorites(ctx context.Context, of string, profile, history int64) error {
	type scored struct {
		ID    int64
		Score float64
	}
	read := fmt.Sprintf("SELECT %s_id, score FROM %[1]s_score WHERE child_profile_id = $1", of)
	rows, err := j.Query(ctx, read, profile)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[scored])
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(s scored) bool { return s.Score <= 0 })
	sum, most := 0.0, 0.0
	for _, s := range all {
		sum, most = sum+s.Score, max(most, s.Score)
	}
	insert := fmt.Sprintf("INSERT INTO favorite_%s (child_profile_id, history_id, %[1]s_id) VALUES ($1, $2, $3)", of)
	for _, s := range all {
		if s.Score < min(sum/float64(len(all)), most) {
			continue
		}
		if _, err := j.Exec(ctx, insert, profile, history, s.ID); err != nil {
			return err
		}
	}
	return nil
}
