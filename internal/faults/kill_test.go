package faults_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// points are where the loop can be made to stop for good.
var points = []string{
	"after_read", "mid_pipeline", "before_checkpoint", "after_checkpoint", "before_trim",
	"after_trim",
}

func TestKillAtEveryPoint(t *testing.T) {
	t.Parallel()
	for _, from := range []source{stream, listLeft, listRight, partitioned} {
		t.Run(from.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{source: from})
			for _, point := range points {
				t.Log(point)
				w.push(2000)

				// Killed in the first chunk, then in the third one of what was left.
				w.start("drain", "CRASH_AT="+point).crashed()
				w.start("drain", "CRASH_AT="+point+":3").crashed()

				w.finish()
			}
		})
	}
}

func TestOverlappingInstances(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	for _, from := range []source{stream, listLeft} {
		t.Run(from.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{source: from})
			w.push(4000)

			first, second := w.start("drain"), w.start("run")
			w.push(1000)

			if code := first.wait(); code != 0 {
				t.Fatalf("exit code %d\n%s", code, first.tail())
			}
			w.emptied()
			second.stop()
			w.exact()
		})
	}
}

// TestResetKilled kills resets at every point. Before its commit a reset has not happened,
// after it, it has; repeated, it comes to its end. The scores are put back to what they were
// at first, as one would by hand, so that what is counted again counts once.
func TestResetKilled(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	for _, from := range []source{stream, listLeft, partitioned} {
		t.Run(from.String(), func(t *testing.T) {
			t.Parallel()
			for _, point := range []string{"before_reset", "rewound", "rewound:2", "after_reset"} {
				if point == "rewound:2" && from.partitions == 1 {
					continue
				}
				t.Run(point, func(t *testing.T) {
					w := newWorld(t, setup{source: from, env: []string{"AGGREGATOR_TRIM_RETAIN=1h"}})
					w.keepScores()
					w.push(1500)
					w.drain()
					w.push(300) // which nobody has read yet

					w.start("checkpoint", "reset", "--yes", "CRASH_AT="+point).crashed()
					w.execute("DELETE FROM aggregator.lease") // it would run out within ten seconds
					if point != "after_reset" {
						w.drain()
						w.exact("--skip-redis")
					}
					w.putScoresBack()
					w.reset()
					w.drain()

					w.forgetAside()
					w.exact("--skip-redis")
					books := w.start("verify")
					require.Zero(t, books.wait(), "%s", books.tail())
				})
			}
		})
	}
}

// reset resets the source.
func (w *world) reset() {
	w.t.Helper()
	d := w.start("checkpoint", "reset", "--yes")
	require.Zero(w.t, d.wait(), "%s", d.tail())
}

// scoreTables are what the daemon adds to.
var scoreTables = []string{"genre_score", "topic_score", "cumulative_mbti_score"}

// keepScores keeps the scores as they are, for putScoresBack.
func (w *world) keepScores() {
	for _, table := range scoreTables {
		w.execute("CREATE TABLE kept_" + table + " AS TABLE " + table)
	}
}

// putScoresBack is what somebody does by hand.
func (w *world) putScoresBack() {
	for _, table := range scoreTables {
		w.execute("DELETE FROM "+table, "INSERT INTO "+table+" SELECT * FROM kept_"+table)
	}
	w.execute("DELETE FROM favorite_genre", "DELETE FROM favorite_topic", "DELETE FROM child_personality_history")
}

// forgetAside removes the dead letters of before the resets, all of whose entries were read
// again: those of the oracle are of now.
func (w *world) forgetAside() {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.database)
	require.NoError(w.t, err)
	defer conn.Close(w.t.Context())
	var left int
	require.NoError(w.t, conn.QueryRow(
		w.t.Context(), "SELECT count(*) FROM aggregator.dead_letter WHERE source LIKE '%@%' AND settled_at IS NULL").Scan(
		&left))
	require.Zero(w.t, left, "letters whose entries are read again are not to be retried")
	_, err = conn.Exec(w.t.Context(), "DELETE FROM aggregator.dead_letter WHERE source LIKE '%@%'")
	require.NoError(w.t, err)
}

// execute runs statements as the superuser.
func (w *world) execute(statements ...string) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.database)
	require.NoError(w.t, err)
	defer conn.Close(w.t.Context())
	for _, statement := range statements {
		_, err := conn.Exec(w.t.Context(), statement)
		require.NoError(w.t, err, statement)
	}
}
