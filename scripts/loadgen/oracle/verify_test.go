package oracle

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
	"aggregator/scripts/loadgen/journal"
	"aggregator/scripts/loadgen/workload"
)

func TestWhatIsRightPasses(t *testing.T) {
	cases := map[string]func(*workload.Settings){
		"stream":           func(*workload.Settings) {},
		"stream of fields": func(s *workload.Settings) { s.Wire = workload.WireFields },
		"list":             func(s *workload.Settings) { s.Kind = workload.List },
		"big junk":         func(s *workload.Settings) { s.JunkSize = 10_000 },
		"few events":       func(s *workload.Settings) { s.Count = 10 },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			db, s := fill(t), settings(1)
			change(&s)
			reference(t, db, s, everything)
			report := verify(t, db, journal.Complete(s))
			require.Empty(t, report.First)
			require.True(t, report.OK())
			require.Equal(t, s.Count, report.Pushed)
			require.Equal(t, s.Count, report.Applied+report.Dead)
			require.Positive(t, report.ProfilesTouched)
		})
	}
}

func TestSeveralPushesAddUp(t *testing.T) {
	db := fill(t)
	var runs []*journal.Run
	for seed := uint64(1); seed <= 3; seed++ {
		reference(t, db, settings(seed), everything)
		runs = append(runs, journal.Complete(settings(seed)))
	}
	report := verify(t, db, runs...)
	require.Empty(t, report.First)
	require.True(t, report.OK())
	require.False(t, verify(t, db, runs[:2]...).OK())
	require.Equal(t, int64(1_500), verify(t, db, runs[:2]...).Doubled)
}

// Of several types of a book the first that is one counts.
func TestTypesThatAreNone(t *testing.T) {
	db := fill(t)
	reference(t, db, settings(1), everything)
	for _, statement := range []string{
		`ALTER TABLE book_mbti DROP CONSTRAINT book_mbti_pkey`,
		`INSERT INTO mbti (id, mbti) VALUES (-1, 'NONE')`,
		`INSERT INTO book_mbti (book_id, mbti_id) SELECT id, -1 FROM book`,
		`INSERT INTO book_mbti (book_id, mbti_id) SELECT book_id, max(mbti_id) + 1 FROM book_mbti
			WHERE mbti_id > 0 GROUP BY 1 HAVING max(mbti_id) < (SELECT max(id) FROM mbti)`,
	} {
		_, err := db.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	require.Empty(t, verify(t, db, journal.Complete(settings(1))).First)
}

func TestNothingPushed(t *testing.T) {
	s := settings(1)
	s.Count = 0
	report := verify(t, fill(t), journal.Complete(s))
	require.True(t, report.OK())
	require.Positive(t, report.RowsCompared)
}

// Each statement spoils one thing, and the report must point at it.
func TestEveryKindOfErrorIsFound(t *testing.T) {
	const latestOf7 = "(SELECT max(id) FROM child_personality_history WHERE child_profile_id = 7)"
	cases := map[string]struct {
		spoil         string
		table         string
		lost, doubled int64
	}{
		"event lost": {
			"UPDATE aggregator.mark SET applied = applied - 1 WHERE child_profile_id = 7", "aggregator.mark", 1, 0,
		},
		"event doubled": {
			"UPDATE aggregator.mark SET applied = applied + 2 WHERE child_profile_id = 7", "aggregator.mark", 0, 2,
		},
		"untouched marked": {
			"INSERT INTO aggregator.mark (child_profile_id, source, position_ms, position_seq, applied) VALUES (55, 's', " +
				"1, 1, 3)", "aggregator.mark", 0, 3,
		},
		"unknown marked": {
			"INSERT INTO aggregator.mark (child_profile_id, source, position_ms, position_seq, applied) VALUES (5555, 's', " +
				"1, 1, 4)", "aggregator.mark", 0, 4,
		},
		"genre score": {
			"UPDATE genre_score SET score = score + 2 WHERE child_profile_id = 7 AND genre_id = 2", "genre_score", 0, 0,
		},
		"genre score missing":   {"DELETE FROM genre_score WHERE child_profile_id = 7 AND genre_id = 2", "genre_score", 0, 0},
		"genre score untouched": {"UPDATE genre_score SET score = -2 WHERE child_profile_id = 55", "genre_score", 0, 0},
		"genre score vanished":  {"DELETE FROM genre_score WHERE child_profile_id = 55", "genre_score", 0, 0},
		"genre score too many": {`INSERT INTO genre_score SELECT 55, id, 0 FROM genre
			WHERE id NOT IN (SELECT genre_id FROM genre_score WHERE child_profile_id = 55)`, "genre_score", 0, 0},
		"genre score of nobody": {"INSERT INTO genre_score VALUES (5555, 1, 2)", "genre_score", 0, 0},
		"score of no genre":     {"INSERT INTO genre_score VALUES (7, 999, 2)", "genre_score", 0, 0},
		"topic score": {
			"UPDATE topic_score SET score = score - 2 WHERE child_profile_id = 7 AND topic_id = 3", "topic_score", 0, 0,
		},
		"topic score missing": {"DELETE FROM topic_score WHERE child_profile_id = 7 AND topic_id = 3", "topic_score", 0, 0},
		"letter score": {
			"UPDATE cumulative_mbti_score SET f_score = f_score + 2 WHERE child_profile_id = 7",
			"cumulative_mbti_score", 0, 0,
		},
		"letters all moved": {
			`UPDATE cumulative_mbti_score SET i_score = i_score + 2, e_score = e_score + 2, s_score = s_score + 2,
			n_score = n_score + 2, t_score = t_score + 2, f_score = f_score + 2, j_score = j_score + 2, p_score = p_score + 2
				WHERE child_profile_id = 7`, "cumulative_mbti_score", 0, 0,
		},
		"letters missing": {
			"DELETE FROM cumulative_mbti_score WHERE child_profile_id = 7", "cumulative_mbti_score", 0,
			0,
		},
		"letters untouched": {"INSERT INTO cumulative_mbti_score VALUES (55, 2) ON CONFLICT (child_profile_id) DO UPDATE " +
			"SET i_score = 2", "cumulative_mbti_score", 0, 0},
		"history missing": {
			"DELETE FROM child_personality_history WHERE child_profile_id = 7",
			"child_personality_history", 0, 0,
		},
		"history untouched": {
			"INSERT INTO child_personality_history (child_profile_id) VALUES (55)",
			"child_personality_history", 0, 0,
		},
		"history of nobody": {
			"INSERT INTO child_personality_history (child_profile_id) VALUES (5555)",
			"child_personality_history", 0, 0,
		},
		"history of old": {"INSERT INTO child_personality_history (child_profile_id, created_at) VALUES (7, now() + " +
			"interval '1 hour')", "child_personality_history", 0, 0},
		"history kind": {"UPDATE child_personality_history SET history_created_type = 'SURVEY' WHERE " +
			"child_profile_id = 7", "child_personality_history", 0, 0},
		"history score": {
			"UPDATE child_personality_history SET p_score = p_score + 2 WHERE child_profile_id = 7",
			"child_personality_history", 0, 0,
		},
		"history type": {"UPDATE child_personality_history h SET mbti_id = (SELECT min(id) FROM mbti WHERE id <> " +
			"h.mbti_id) WHERE child_profile_id = 7", "child_personality_history", 0, 0},
		"history no type": {
			"UPDATE child_personality_history SET mbti_id = NULL WHERE child_profile_id = 7",
			"child_personality_history", 0, 0,
		},
		"favourite misplaced": {
			"UPDATE favorite_genre SET child_profile_id = 8 WHERE child_profile_id = 7", "favorite_genre",
			0, 0,
		},
		"favourite missing": {"DELETE FROM favorite_genre WHERE child_profile_id = 7", "favorite_genre", 0, 0},
		"favourite too many": {"INSERT INTO favorite_genre SELECT 7, " + latestOf7 +
			", id FROM genre ON CONFLICT DO NOTHING", "favorite_genre", 0, 0},
		"wrong topic": {"UPDATE favorite_topic SET topic_id = 100 WHERE child_profile_id = 7 AND topic_id = " +
			"(SELECT min(topic_id) FROM favorite_topic WHERE child_profile_id = 7)", "favorite_topic", 0, 0},
		"dead letter lost": {"DELETE FROM aggregator.dead_letter WHERE ctid = (SELECT max(ctid) FROM " +
			"aggregator.dead_letter WHERE reason = 'unknown_book')", "aggregator.dead_letter", 1, 0},
		"dead letter doubled": {
			"INSERT INTO aggregator.dead_letter (source, position_ms, position_seq, reason, payload, " +
				"payload_form) SELECT source, 99, 99, reason, payload, payload_form FROM aggregator.dead_letter LIMIT 1",
			"aggregator.dead_letter", 0, 1,
		},
		"dead letter reason": {
			"UPDATE aggregator.dead_letter SET reason = 'data_error' WHERE reason = 'missing_field'",
			"aggregator.dead_letter", 0, 0,
		},
		"dead letter source": {"UPDATE aggregator.dead_letter SET source = 'other' WHERE ctid = (SELECT max(ctid) FROM " +
			"aggregator.dead_letter)", "aggregator.dead_letter", 1, 1},
		"dead letter payload": {"UPDATE aggregator.dead_letter SET payload = payload || '\\x00'::bytea WHERE ctid = " +
			"(SELECT max(ctid) FROM aggregator.dead_letter)", "aggregator.dead_letter", 1, 1},
		"dead letter form": {"UPDATE aggregator.dead_letter SET payload_form = 'entry' WHERE ctid = (SELECT max(ctid) FROM " +
			"aggregator.dead_letter WHERE payload_form = 'event')", "aggregator.dead_letter", 1, 1},
	}
	s := settings(1)
	db := fill(t)
	reference(t, db, s, everything)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			report := verifySpoiled(t, db, Options{}, s, c.spoil)
			require.False(t, report.OK())
			require.Equal(t, c.lost, report.Lost, "lost")
			require.Equal(t, c.doubled, report.Doubled, "doubled")
			require.Equal(t, c.table, report.First[0].Table, "%+v", report.First)
		})
	}
	require.True(t, verify(t, db, journal.Complete(s)).OK(), "left spoiled")
}

// verifySpoiled verifies as things are after a statement, and takes that back.
func verifySpoiled(t *testing.T, db *pgx.Conn, o Options, s workload.Settings, spoil string) Report {
	t.Helper()
	tx, err := db.Begin(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(t.Context())) }()
	tag, err := tx.Exec(t.Context(), spoil)
	require.NoError(t, err)
	require.Positive(t, tag.RowsAffected(), "nothing was spoiled")
	shape := shape()
	o.Weights, o.Seeded = Weights{2, -2}, &shape
	v := &verification{Options: o}
	require.NoError(t, v.read(t.Context(), tx))
	report, err := v.compare([]*journal.Run{journal.Complete(s)})
	require.NoError(t, err)
	return report
}

func TestLostAndDoubledDoNotCancelOut(t *testing.T) {
	db, s := fill(t), settings(1)
	reference(t, db, s, everything)
	exec(t, db, "UPDATE aggregator.mark SET applied = applied - 1 WHERE child_profile_id = 7 AND applied > 0")
	exec(t, db, "UPDATE aggregator.mark SET applied = applied + 1 WHERE child_profile_id = 8")
	report := verify(t, db, journal.Complete(s))
	require.Equal(t, int64(1), report.Lost)
	require.Equal(t, int64(1), report.Doubled)
}

func TestZeroRowsOfAnUnknownSeed(t *testing.T) {
	db, s := fill(t), settings(1)
	reference(t, db, s, everything)
	exec(t, db, "DELETE FROM genre_score WHERE child_profile_id = 55")
	exec(t, db, "INSERT INTO topic_score SELECT 56, id, 0 FROM topic ON CONFLICT DO NOTHING")
	options := Options{Weights: Weights{2, -2}}
	report, err := Verify(t.Context(), db, []*journal.Run{journal.Complete(s)}, options)
	require.NoError(t, err)
	require.True(t, report.OK(), "%+v", report.First)
	exec(t, db, "UPDATE topic_score SET score = 2 WHERE child_profile_id = 56 AND topic_id = 1")
	report, err = Verify(t.Context(), db, []*journal.Run{journal.Complete(s)}, options)
	require.NoError(t, err)
	require.False(t, report.OK())
}

func TestLaterHistoryOfTheSameInstantWinsByID(t *testing.T) {
	db, s := fill(t), settings(1)
	reference(t, db, s, everything)
	exec(t, db, "UPDATE child_personality_history SET created_at = '2026-01-01'")
	require.True(t, verify(t, db, journal.Complete(s)).OK())
	exec(t, db, "INSERT INTO child_personality_history (child_profile_id, created_at) VALUES (7, '2026-01-01')")
	require.False(t, verify(t, db, journal.Complete(s)).OK())
}

func TestLeftoversInRedis(t *testing.T) {
	o, err := redis.ParseURL(testenv.Redis(t))
	require.NoError(t, err)
	db := redis.NewClient(o)
	defer db.Close()
	list, stream := settings(1), settings(2)
	list.Kind = workload.List
	runs := []*journal.Run{journal.Complete(list), journal.Complete(stream), journal.Complete(stream)}
	left, err := Leftovers(t.Context(), db, runs)
	require.NoError(t, err)
	require.Empty(t, left)
	require.NoError(t, db.LPush(t.Context(), list.Keys()[1], "x", "y").Err())
	for _, key := range []string{list.Streams()[0], stream.Keys()[1]} {
		require.NoError(t, db.Do(t.Context(), "xadd", key, "*", "event", "x").Err())
	}
	left, err = Leftovers(t.Context(), db, runs)
	require.NoError(t, err)
	require.Equal(t, []Leftover{
		{"BookLikeEventList:{0}:stream", 1}, {"BookLikeEventList:{1}", 2}, {"book-like-events:{1}", 1},
	}, left)
}

// A dead letter that was applied from its row is an event like those that marks count; one
// that was dropped is a dead letter still.
func TestSettledDeadLetters(t *testing.T) {
	db, s := fill(t), settings(1)
	reference(t, db, s, everything)
	exec(t, db, `UPDATE aggregator.mark SET applied = applied - $1 WHERE child_profile_id = 7 AND applied > $1`, 1)
	exec(
		t, db,
		`INSERT INTO aggregator.dead_letter (source, position_ms, position_seq, child_profile_id, reason, payload,
			payload_form, settled_at, settled_as)
		VALUES ('s', 1, $1, 7, 'unknown_profile', '7:1:LIKE', 'event', now(), 'applied')`, 1)
	exec(t, db, `UPDATE aggregator.dead_letter SET settled_at = now(), settled_as = $1 WHERE reason = 'unknown_book'`,
		"dropped")
	report := verify(t, db, journal.Complete(s))
	require.True(t, report.OK(), "%+v", report.First)
	require.Equal(t, s.Count, report.Applied+report.Dead)

	exec(t, db, `UPDATE aggregator.dead_letter SET settled_as = $1
		WHERE ctid = (SELECT max(ctid) FROM aggregator.dead_letter WHERE settled_as = 'dropped')`, "applied")
	report = verify(t, db, journal.Complete(s))
	require.Equal(t, int64(1), report.Lost, "it says applied, and no profile has it")
	require.Equal(t, int64(1), report.Doubled)
}
