package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/postgres"
)

// ErrNoProfile says that there is no child profile of the id asked for.
var ErrNoProfile = errors.New("no such child profile")

// Feedback is the cause of a snapshot that events led to.
const Feedback = "FEEDBACK"

// Snapshot is a child's personality at one moment.
type Snapshot struct {
	ID      int64      `json:"id"`
	Created time.Time  `json:"created_at"`
	Deleted *time.Time `json:"deleted_at,omitempty"` // when the application deleted it softly
	Cause   string     `json:"history_created_type"` // DIAGNOSIS, or Feedback
	Type    string     `json:"mbti"`                 // empty if not known
	Scores  Scores     `json:"scores"`
	Genres  []string   `json:"favorite_genres"` // names, in their order; #7 for one that is gone
	Topics  []string   `json:"favorite_topics"` // names, in their order; #7 for one that is gone
	Change  *Change    `json:"change"`          // since the snapshot before; nil if there is none
}

// Scores are the eight cumulative MBTI scores. One that is Infinity or NaN, which the application must have
// written, is null in JSON, which has no such numbers.
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

// Changes are the scores that are not 0, for a person, as in "I +2, E -2"; empty if there is none.
func (s Scores) Changes() string {
	var parts []string
	for _, one := range []struct {
		letter string
		points float64
	}{{"I", s.I}, {"E", s.E}, {"N", s.N}, {"S", s.S}, {"T", s.T}, {"F", s.F}, {"J", s.J}, {"P", s.P}} {
		if one.points != 0 {
			parts = append(parts, fmt.Sprintf("%s %+g", one.letter, one.points))
		}
	}
	return strings.Join(parts, ", ")
}

// MarshalJSON implements json.Marshaler.
func (s Scores) MarshalJSON() ([]byte, error) {
	number := func(f float64) *float64 {
		if math.IsInf(f, 0) || math.IsNaN(f) {
			return nil
		}
		return &f
	}
	return json.Marshal(struct {
		I *float64 `json:"i"`
		E *float64 `json:"e"`
		S *float64 `json:"s"`
		N *float64 `json:"n"`
		T *float64 `json:"t"`
		F *float64 `json:"f"`
		J *float64 `json:"j"`
		P *float64 `json:"p"`
	}{
		number(s.I), number(s.E), number(s.S), number(s.N), number(s.T), number(s.F), number(s.J), number(s.P),
	})
}

// Change is what is different from the snapshot before.
type Change struct {
	Type         string   `json:"mbti_before"` // the same as now, if it has not changed
	GenresGained []string `json:"genres_gained"`
	GenresLost   []string `json:"genres_lost"`
	TopicsGained []string `json:"topics_gained"`
	TopicsLost   []string `json:"topics_lost"`
}

// Selection says which snapshots of a profile.
type Selection struct {
	Limit   int
	Before  time.Time // only those created before; zero: all
	Deleted bool      // those that are softly deleted, too
}

// Timeline returns the latest snapshots of a profile that are selected, newest first: in the order of their
// ids, which is the order in which they were written. For Before, it takes this order to be that of time,
// too, except for a hundred places. If something else has written rows in another order, it may miss some of
// them. The error is ErrNoProfile if there is no such profile; a profile without history has an empty
// timeline. Reads only.
func Timeline(ctx context.Context, pool *pgxpool.Pool, profileID int64, s Selection) ([]Snapshot, error) {
	var known bool
	if err := pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM child_profile WHERE id = $1::bigint)`, profileID).Scan(
		&known); err != nil {
		return nil, fmt.Errorf("reading profile %d: %w", profileID, err)
	}
	if !known {
		return nil, fmt.Errorf("profile %d: %w", profileID, ErrNoProfile)
	}
	statement, args := timelineSQL, s.args(profileID)
	if postgres.OnCitus(pool.Config().ConnConfig) {
		statement, args = timelineOnCitus, args[:len(args)-1]
	}
	rows, _ := pool.Query(ctx, statement, args...) // its error is also that of the rows
	snapshots, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Snapshot, error) {
		var s Snapshot
		m := &s.Scores
		err := row.Scan(&s.ID, &s.Created, &s.Deleted, &s.Cause, &s.Type, &m.I, &m.E, &m.S, &m.N, &m.T, &m.F, &m.J, &m.P,
			&s.Genres, &s.Topics)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the history of profile %d: %w", profileID, err)
	}
	for i := range len(snapshots) - 1 {
		snapshots[i].Change = changed(snapshots[i+1], snapshots[i])
	}
	return snapshots[:min(len(snapshots), s.Limit)], nil
}

// args are those of timelineSQL: one more row than is asked for, to compare the last with.
func (s Selection) args(profileID int64) []any {
	var before any
	if !s.Before.IsZero() {
		before = s.Before
	}
	return []any{profileID, s.Limit + 1, s.Deleted, before, outOfOrder}
}

func changed(before, after Snapshot) *Change {
	return &Change{
		Type:         before.Type,
		GenresGained: missing(after.Genres, before.Genres), GenresLost: missing(before.Genres, after.Genres),
		TopicsGained: missing(after.Topics, before.Topics), TopicsLost: missing(before.Topics, after.Topics),
	}
}

// missing are those of names that are not among others, in their order. Two of the same
// name are two.
func missing(names, others []string) []string {
	others = slices.Clone(others)
	left := []string{}
	for _, name := range names {
		if i := slices.Index(others, name); i >= 0 {
			others = slices.Delete(others, i, i+1)
		} else {
			left = append(left, name)
		}
	}
	return left
}

// outOfOrder is how far apart two rows of a profile may be, in the order of their ids, and yet
// not be in the order of time. Rows that are written one after the other are all in order,
// unless the clock was set back meanwhile.
const outOfOrder = 100

// A column without a time zone is in that of the session: a cast says so, and tells one moment from another.
//
// The primary key is the only index that this needs, and an insert of the daemon has no other to add to: a
// profile's rows are read from the latest id backwards. Where to begin for a moment in the past is found by
// binary search, as ids rise with time: the first row that is late is between lo and hi, or hi is the last of
// all. Up to outOfOrder rows after it, by id, may still be early. So this reads the rows that it shows, the
// deleted ones that it skips, and some two hundred more, however long the history is.
//
// in: $1 profile id; $2 how many; $3 whether deleted ones count; $4 before when, or null; $5 outOfOrder.
const timelineSQL = `
WITH RECURSIVE search (lo, hi) AS (
    SELECT min(id), max(id) FROM child_personality_history WHERE child_profile_id = $1::bigint
	AND $4::timestamptz IS NOT NULL
    UNION ALL
    SELECT CASE WHEN last.late THEN lo ELSE middle + 1 END, CASE WHEN last.late THEN last.id ELSE hi END
    FROM search
    CROSS JOIN LATERAL (SELECT (lo & hi) + ((lo # hi) >> 1)) mean (middle) -- where lo + hi may be too large
    LEFT JOIN LATERAL (
        SELECT id, created_at::timestamptz >= $4::timestamptz AS late FROM child_personality_history
        WHERE child_profile_id = $1::bigint AND id BETWEEN lo AND middle ORDER BY id DESC LIMIT 1
    ) last ON true
    WHERE lo < hi
), latest (id) AS (
    SELECT id FROM child_personality_history
    WHERE child_profile_id = $1::bigint AND id >= (SELECT min(hi) FROM search) ORDER BY id OFFSET $5 LIMIT 1
)` + snapshotsSQL + ` AND h.id <= coalesce((SELECT id FROM latest), 9223372036854775807)` + newestFirst

// timelineOnCitus has no search, which Citus refuses: it also reads what is later than the moment. in: as timelineSQL,
// without $5.
const timelineOnCitus = snapshotsSQL + newestFirst

const snapshotsSQL = `
SELECT h.id, h.created_at::timestamptz,
       CASE WHEN h.is_deleted THEN coalesce(h.deleted_at::timestamptz, h.created_at::timestamptz) END,
       h.history_created_type::text, coalesce(upper(btrim(m.mbti::text)), ''),
       coalesce(h.i_score::float8, 0), coalesce(h.e_score::float8, 0), coalesce(h.s_score::float8, 0),
	coalesce(h.n_score::float8, 0),
       coalesce(h.t_score::float8, 0), coalesce(h.f_score::float8, 0), coalesce(h.j_score::float8, 0),
	coalesce(h.p_score::float8, 0),
       array(SELECT coalesce(g.name, '#' || f.genre_id) AS name FROM favorite_genre f LEFT
	JOIN genre g ON g.id = f.genre_id
             WHERE f.child_profile_id = h.child_profile_id AND f.history_id = h.id ORDER BY name),
       array(SELECT coalesce(t.name, '#' || f.topic_id) AS name FROM favorite_topic f LEFT
	JOIN topic t ON t.id = f.topic_id
             WHERE f.child_profile_id = h.child_profile_id AND f.history_id = h.id ORDER BY name)
FROM child_personality_history h
LEFT JOIN mbti m ON m.id = h.mbti_id
WHERE h.child_profile_id = $1::bigint
  AND (NOT h.is_deleted OR $3) AND h.created_at::timestamptz < coalesce($4::timestamptz, 'infinity')`

const newestFirst = `
ORDER BY h.id DESC
LIMIT $2`
