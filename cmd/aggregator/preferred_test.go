package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The rule for favorites and the time zone of the sessions come from the settings to all that needs them.
func TestPreferredAndTimeZone(t *testing.T) {
	s := newPair(t)
	s.exec(`INSERT INTO genre (id, name) VALUES (1, 'g'), (2, 'h'); UPDATE book SET genre_id = 1`)
	s.exec(`INSERT INTO genre_score VALUES (1, 1, 1), (1, 2, 3)`)
	s.exec(`ALTER TABLE child_personality_history ALTER created_at TYPE timestamp`)
	byDefault := s.env
	s.env = append(s.env, "AGGREGATOR_HISTORY_PREFERRED=above_mean_of_nonnegative",
		"AGGREGATOR_POSTGRES_TIME_ZONE=Asia/Seoul")
	favorites := func() (n int) {
		t.Helper()
		require.NoError(t, s.db.QueryRow(t.Context(), `SELECT count(*) FROM favorite_genre f
			WHERE history_id = (SELECT max(id) FROM child_personality_history)`).Scan(&n))
		return n
	}
	s.push("1:1:LIKE", "1:7:LIKE") // of 3 and 3 none is above the mean
	s.program("drain").requireDone(t)
	require.Zero(t, favorites())
	var wall time.Time
	require.NoError(t, s.db.QueryRow(t.Context(), `SELECT created_at FROM child_personality_history`).Scan(&wall))
	require.WithinDuration(t, time.Now().UTC().Add(9*time.Hour), wall, time.Minute)

	s.program("verify", "--scores").requireDone(t)
	r := program(t, byDefault, "verify", "--scores")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stdout, "genre 1 is preferred by the scores, and no favorite in the history")

	s.exec(`INSERT INTO book (id, title, genre_id) VALUES (7, 'late', 2)`)
	s.program("dead", "retry", "--all-unsettled").requireDone(t) // 3 and 5
	require.Equal(t, 1, favorites())
	s.exec(`UPDATE genre_score SET score = 5`)
	s.push("1:1:LIKE", "1:7:LIKE")
	program(t, byDefault, "drain").requireDone(t) // 7 and 7
	require.Equal(t, 2, favorites())

	program(t, append(byDefault, "AGGREGATOR_POSTGRES_TIME_ZONE=Seoul"), "drain").requireFailure(
		t, exitConfig, "postgres.time_zone")
}
