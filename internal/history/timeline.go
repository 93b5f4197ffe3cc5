package history

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrNoProfile says that there is no child profile of the id asked for.
var ErrNoProfile = errors.New("no such child profile")

// Snapshot is a child's personality at one moment.
type Snapshot struct {
	ID      int64     `json:"id"`
	Created time.Time `json:"created_at"`
	Cause   string    `json:"history_created_type"` // DIAGNOSIS, or FEEDBACK for what events did
	Type    string    `json:"mbti"`                 // empty if not known
	Scores  Scores    `json:"scores"`
	Genres  []string  `json:"favorite_genres"` // names, in their order
	Topics  []string  `json:"favorite_topics"` // names, in their order
}

// Scores are the eight cumulative MBTI scores.
type Scores struct {
	I float64 `json:"i"`
	E float64 `json:"e"`
	S float64 `json:"s"`
	N float64 `json:"n"`
	T float64 `json:"t"`
	F float64 `json:"f"`
	J float64 `json:"j"`
	P float64 `json:"p"`
}

// Timeline returns the latest snapshots of a profile that are not deleted, newest first,
// at most limit of them. The error is ErrNoProfile if there is no such profile; a
// profile without history has an empty timeline. Reads only.
func Timeline(ctx context.Context, pool *pgxpool.Pool, profileID int64, limit int) ([]Snapshot, error) {
	var known bool
	if err := pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM child_profile WHERE id = $1)`, profileID).Scan(&known); err != nil {
		return nil, fmt.Errorf("reading profile %d: %w", profileID, err)
	}
	if !known {
		return nil, fmt.Errorf("profile %d: %w", profileID, ErrNoProfile)
	}
	rows, err := pool.Query(ctx, timelineSQL, profileID, limit)
	if err != nil {
		return nil, fmt.Errorf("reading the history of profile %d: %w", profileID, err)
	}
	snapshots, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Snapshot, error) {
		var s Snapshot
		m := &s.Scores
		err := row.Scan(&s.ID, &s.Created, &s.Cause, &s.Type, &m.I, &m.E, &m.S, &m.N, &m.T, &m.F, &m.J, &m.P, &s.Genres, &s.Topics)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the history of profile %d: %w", profileID, err)
	}
	return snapshots, nil
}

const timelineSQL = `
SELECT h.id, h.created_at, h.history_created_type, coalesce(m.mbti, ''),
       h.i_score, h.e_score, h.s_score, h.n_score, h.t_score, h.f_score, h.j_score, h.p_score,
       array(SELECT g.name FROM favorite_genre f JOIN genre g ON g.id = f.genre_id
             WHERE f.child_profile_id = h.child_profile_id AND f.history_id = h.id ORDER BY g.name),
       array(SELECT t.name FROM favorite_topic f JOIN topic t ON t.id = f.topic_id
             WHERE f.child_profile_id = h.child_profile_id AND f.history_id = h.id ORDER BY t.name)
FROM child_personality_history h
LEFT JOIN mbti m ON m.id = h.mbti_id
WHERE h.child_profile_id = $1 AND NOT h.is_deleted
ORDER BY h.id DESC
LIMIT $2`
