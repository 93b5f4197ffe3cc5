package aggregator_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/internal/aggregator"
	"aggregator/internal/events"
	"aggregator/internal/runs"
)

// A sum that is too large for a number is never stored: the event that makes it so is a dead letter, in a
// chunk with what it is added to and in one of its own, however profiles are applied. A preview says the same
// of what it adds up itself.
func TestSumsThatAreTooLarge(t *testing.T) {
	for name, c := range map[string]struct {
		profiles, together int // at once
	}{
		"alone": {1, 1}, "each": {30, 1}, "together": {30, 7},
	} {
		for _, chunk := range []int{1000, 1} {
			t.Run(fmt.Sprintf("%s/%d", name, chunk), func(t *testing.T) {
				f := newFixture(t, events.Options{Kind: events.KindStream, Key: "k"})
				f.source.Weights["HUGE"] = 1e308
				f.options.ProfilesPerTransaction, f.options.ChunkMaxEvents = c.together, chunk
				f.exec(`INSERT INTO book (id, title, genre_id) VALUES (101, 'a', 3)`)
				f.exec(`INSERT INTO book_topic VALUES (101, 4)`)
				f.exec(`INSERT INTO book_mbti SELECT 101, id FROM mbti WHERE mbti = 'ENFP'`)
				text := func(profile int) string { return fmt.Sprintf("%d:101:HUGE", profile) }
				f.push(text(1), text(1))
				for profile := 2; profile <= c.profiles; profile++ {
					f.push(text(profile))
				}
				foreseen, err := f.new().Preview(t.Context(), 0)
				require.NoError(t, err)
				for _, delta := range foreseen.Deltas {
					require.True(t, delta.Finite())
				}
				done := f.drain()
				require.EqualValues(t, c.profiles, done.Applied)
				require.EqualValues(t, 1, done.Dead)
				require.Equal(t, done.Applied, foreseen.Applied)
				require.Equal(t, map[events.Reason]int64{events.DataError: 1}, foreseen.Dead)

				f.push(text(1)) // to what is stored
				require.EqualValues(t, 1, f.drain().Dead)
				require.EqualValues(t, 2, f.count(`SELECT count(*) FROM aggregator.dead_letter
					WHERE reason = 'data_error' AND sqlstate = '22003' AND child_profile_id = 1`))
				require.EqualValues(t, c.profiles, f.count(`SELECT count(*) FROM child_personality_history`))
				require.EqualValues(t, 3*c.profiles, f.count(`SELECT (SELECT count(*) FROM genre_score WHERE score = 1e308)
					+ (SELECT count(*) FROM topic_score WHERE score = 1e308)
					+ (SELECT count(*) FROM cumulative_mbti_score
						WHERE (e_score, n_score, f_score, p_score) = (1e308, 1e308, 1e308, 1e308))`))

				f.source.Weights["HUGE"] = 1
				f.push(text(1)) // which is too little to matter
				require.Equal(t, aggregator.Stats{Counts: runs.Counts{Read: 1, Applied: 1, Profiles: 1, Chunks: 1}},
					withoutTimes(f.drain()))
			})
		}
	}
}

// withoutTimes are the counts that depend on the events alone.
func withoutTimes(s aggregator.Stats) aggregator.Stats {
	s.Trimmed = 0
	return s
}
