package oracle

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/scripts/loadgen/journal"
)

// cutRun is the record of a push whose events from 0 to 799 were acknowledged but for
// some batches, and whose events from 800 on were never sent.
func cutRun(t *testing.T, seed uint64, unknown [][2]int64) *journal.Run {
	t.Helper()
	path := filepath.Join(t.TempDir(), "acked")
	w, err := journal.Append(path, settings(seed))
	require.NoError(t, err)
	require.NoError(t, w.Write(journal.Sent, 0, 800))
	require.NoError(t, w.Write(journal.Acknowledged, 0, 800))
	for _, u := range unknown {
		require.NoError(t, w.Write(journal.Sent, u[0], u[1]))
	}
	require.NoError(t, w.Close())
	runs, err := journal.Read(path)
	require.NoError(t, err)
	return runs[0]
}

func TestEventsOfUnknownOutcomeMayCountOnceOrNotAtAll(t *testing.T) {
	unknown := [][2]int64{{100, 160}, {160, 200}, {500, 530}}
	in := func(from, to, i int64) bool { return i >= from && i < to }
	cases := map[string]func(i int64) bool{
		"none":         func(int64) bool { return false },
		"all":          func(int64) bool { return true },
		"a beginning":  func(i int64) bool { return in(100, 117, i) || in(160, 161, i) || in(500, 512, i) },
		"one batch":    func(i int64) bool { return in(160, 200, i) },
		"every second": func(i int64) bool { return i%2 == 0 }, // no server does that, yet it is allowed
	}
	for name, took := range cases {
		t.Run(name, func(t *testing.T) {
			db := fill(t)
			run := cutRun(t, 1, unknown)
			reference(t, db, settings(1), func(i int64) bool {
				outcome, _ := run.Outcome(i)
				return outcome == journal.Acknowledged || outcome == journal.Unknown && took(i)
			})
			report := verify(t, db, run)
			require.Empty(t, report.First)
			require.True(t, report.OK())
			require.Equal(t, int64(130), report.PushedUnknown)
			require.Equal(t, int64(670), report.Pushed)
		})
	}
}

func TestUnknownOutcomesExcuseNothingElse(t *testing.T) {
	took := func(i int64) bool { return i < 120 }
	cases := map[string]struct {
		spoil         string
		lost, doubled bool
	}{
		"lost": {"UPDATE aggregator.mark SET applied = applied - 100 WHERE (child_profile_id, source) = (SELECT " +
			"child_profile_id, source FROM aggregator.mark ORDER BY applied DESC LIMIT 1)", true, false},
		"doubled": {"UPDATE aggregator.mark SET applied = applied + 100 WHERE (child_profile_id, source) = (SELECT " +
			"child_profile_id, source FROM aggregator.mark ORDER BY applied DESC LIMIT 1)", false, true},
		"score": {"UPDATE genre_score SET score = score + 2 WHERE child_profile_id = 7 AND genre_id = 1", false, false},
		"letter": {"DELETE FROM aggregator.dead_letter WHERE position_seq = (SELECT max(position_seq) FROM " +
			"aggregator.dead_letter)", true, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			db := fill(t)
			run := cutRun(t, 1, [][2]int64{{100, 160}})
			reference(t, db, settings(1), func(i int64) bool {
				outcome, _ := run.Outcome(i)
				return outcome == journal.Acknowledged || outcome == journal.Unknown && took(i)
			})
			_, err := db.Exec(context.WithoutCancel(t.Context()), c.spoil)
			require.NoError(t, err)
			report := verify(t, db, run)
			require.False(t, report.OK())
			require.Equal(t, c.lost, report.Lost > 0)
			require.Equal(t, c.doubled, report.Doubled > 0)
		})
	}
}

func TestSearchEnds(t *testing.T) {
	// Sixty events that all look alike but for one that the scores need and n forbids.
	var events []uncertain
	for range 60 {
		events = append(events, uncertain{book: book{genre: 0}, weight: 2}, uncertain{book: book{genre: 0}, weight: -2})
	}
	s := newSearch([]float64{1}, nil, nil)
	_, ok := s.find(events, 60)
	require.False(t, ok)
}
