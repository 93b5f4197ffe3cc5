package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// Numbers that JSON does not have do not break it, whether events add up to them or the application has
// stored them.
func TestInfinityInJSON(t *testing.T) {
	s := newPair(t)
	s.env = append(s.env, "AGGREGATOR_EVENTS_WEIGHTS=LIKE=1e308")
	s.exec(`INSERT INTO child_profile (id, name) VALUES (2, 'one that the trial before each attempt spares')`)
	s.exec(`INSERT INTO genre (id, name) VALUES (1, 'g'); UPDATE book SET genre_id = 1`)
	s.push("1:1:LIKE", "1:1:LIKE")
	valid := func(args ...string) (document map[string]any) {
		t.Helper()
		r := s.program(append(args, "-o", "json")...)
		require.NoError(t, json.Unmarshal([]byte(r.stdout), &document), "%s%s", r.stdout, r.stderr)
		return document
	}
	foreseen := valid("drain", "--dry-run")
	require.EqualValues(t, 1, foreseen["applied"])
	require.Equal(t, map[string]any{"data_error": 1.0}, foreseen["dead"])
	valid("drain")

	s.exec(`INSERT INTO cumulative_mbti_score VALUES (1, 'Infinity', '-Infinity', 'NaN', 0, 0, 0, 0, 0)`)
	s.exec(`UPDATE child_personality_history SET i_score = 'Infinity', e_score = '-Infinity', s_score = 'NaN'`)
	compared := valid("verify", "--scores")
	require.EqualValues(t, 1, compared["scores"].(map[string]any)["different"])
	first := compared["scores"].(map[string]any)["first"].([]any)[0].(map[string]any)
	require.Contains(t, first["differences"],
		"the score of I is not a finite number, and not a finite number in the history")
	snapshots := valid("history", "1")["snapshots"].([]any)
	require.Len(t, snapshots, 1)
	require.Equal(t, map[string]any{"i": nil, "e": nil, "s": nil, "n": 0.0, "t": 0.0, "f": 0.0, "j": 0.0, "p": 0.0},
		snapshots[0].(map[string]any)["scores"])

	s.push("1:1:DISLIKE")
	report := valid("drain")
	require.EqualValues(t, 1, report["dead"])
	var rows int
	require.NoError(t, s.db.QueryRow(t.Context(), `SELECT count(*) FROM child_personality_history`).Scan(&rows))
	require.Equal(t, 1, rows, "it is not copied")
}
