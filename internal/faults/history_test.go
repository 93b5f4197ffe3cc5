package faults_test

import (
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/scripts/loadgen/catalogue"
	"aggregator/scripts/loadgen/journal"
	"aggregator/scripts/loadgen/workload"
)

// eight are the cumulative scores of the letters, in the order of the columns.
type eight [8]float64

const letters = "IESNTFJP"

// historyInOrder checks every row of history, where loadgen verify looks at the latest of
// each profile: in the order of their ids, the rows of a profile are its scores after ever
// more of its events. It returns how many rows that were: none where the order of events is
// not known, because some were pushed by several clients, refused or of unknown outcome.
func (w *world) historyInOrder() (rows int) {
	w.t.Helper()
	if w.unordered {
		return 0
	}
	said, err := os.ReadFile(w.journal)
	require.NoError(w.t, err)
	if strings.Contains(string(said), "\nu ") || strings.Contains(string(said), "\nr ") {
		return 0
	}
	after := w.scoresAfterEachEvent()
	conn, err := pgx.Connect(w.t.Context(), w.database)
	require.NoError(w.t, err)
	defer func() { _ = conn.Close(w.t.Context()) }()
	_, err = conn.Exec(w.t.Context(),
		`SELECT set_config('search_path', 'aggregator_views, ' || current_setting('search_path'), false)`)
	require.NoError(w.t, err)
	history, err := conn.Query(
		w.t.Context(), `SELECT child_profile_id, ARRAY[i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score]
		FROM child_personality_history WHERE history_created_type = 'FEEDBACK' ORDER BY child_profile_id, id`)
	require.NoError(w.t, err)
	var profile int64
	var scores []float64
	_, err = pgx.ForEachRow(history, []any{&profile, &scores}, func() error {
		left := after[profile]
		for len(left) > 0 && left[0] != eight(scores) {
			left = left[1:]
		}
		require.NotEmpty(w.t, left, "profile %d never had the scores %v after those of the row before", profile, scores)
		after[profile] = left[1:]
		rows++
		return nil
	})
	require.NoError(w.t, err)
	return rows
}

// scoresAfterEachEvent works out what the rows of each profile may hold.
func (w *world) scoresAfterEachEvent() map[int64][]eight {
	runs, err := journal.Read(w.journal)
	require.NoError(w.t, err)
	shape := catalogue.Default()
	after, total := map[int64][]eight{}, map[int64]eight{}
	for _, run := range runs {
		events, err := workload.Open(run.Settings)
		require.NoError(w.t, err)
		for i := range events.Len() {
			e := events.At(i)
			if outcome, _ := run.Outcome(i); outcome != journal.Acknowledged || e.Junk != "" ||
				e.Profile < 1 || e.Profile > profiles || e.Book < 1 || e.Book > books {
				continue
			}
			scores, weight := total[e.Profile], 2.0
			if !e.Like {
				weight = -2
			}
			for _, letter := range shape.Book(e.Book).Type {
				scores[strings.IndexRune(letters, letter)] += weight
			}
			total[e.Profile] = scores
			after[e.Profile] = append(after[e.Profile], scores)
		}
	}
	return after
}
