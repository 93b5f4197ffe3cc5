package main

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/internal/history"
	"aggregator/internal/scores"
	"aggregator/internal/terminal"
	"aggregator/internal/testenv"
)

func TestTimelineText(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 2, 13, 58, 0, time.UTC)
	lines := []snapshotLine{
		{Run: &runName{17, "drain"}, Snapshot: history.Snapshot{
			Created: at, Deleted: &at, Type: "ISTP", Cause: "FEEDBACK",
			Scores: history.Scores{I: 4, E: -4, N: 0, S: 8, T: 1, F: 1, J: -2.5, P: -2},
			Genres: []string{"Fairy tales", "Science"}, Topics: []string{},
			Change: &history.Change{
				Type: "INTJ", GenresGained: []string{"Science"}, GenresLost: []string{"Sports", "Art"},
				TopicsLost: []string{"Cats"},
			},
		}},
		{Snapshot: history.Snapshot{Created: at, Cause: "DIAGNOSIS"}},
	}
	var text strings.Builder
	writeTimeline(&text, terminal.Terminal{}, lines)
	require.Equal(t, `2026-11-22T02:13:58Z  ISTP, was INTJ  FEEDBACK  during drain 17  deleted 2026-11-22T02:13:58Z
  I       4    ########|            -4      E
  N       0            |########    8       S
  T       1            |            1       F
  J    -2.5            |#           -2      P
  genres  Fairy tales, Science (gained Science; lost Sports, Art)
  topics  - (lost Cats)
2026-11-22T02:13:58Z  -  DIAGNOSIS
  I       0            |            0       E
  N       0            |            0       S
  T       0            |            0       F
  J       0            |            0       P
  genres  -
  topics  -
  scale: a full bar is a lead of 10 points, each # is 1
`, text.String())
	text.Reset()
	lines[0].Topics = []string{"별주부전", "토끼와 거북이", "흥부와 놀부", "해와 달이 된 오누이", "심청전"}
	writeTimeline(&text, terminal.Terminal{Width: 60}, lines)
	require.Contains(t, text.String(), "  I       4    ████████│            -4      E\n")
	require.Contains(t, text.String(), `
  topics  별주부전, 토끼와 거북이, 흥부와 놀부, 해와 달이 된
          오누이, 심청전 (lost Cats)
`)
	requireFits(t, 60, text.String())
}

// Numbers that are none are shown as such, in both forms.
func TestTimelineTextOfInfinity(t *testing.T) {
	t.Parallel()
	lines := []snapshotLine{{Snapshot: history.Snapshot{
		Cause: "DIAGNOSIS",
		Scores: history.Scores{
			I: math.Inf(1), E: 2, S: math.NaN(), N: 4, T: 1, F: 2, J: math.Inf(-1), P: math.Inf(-1),
		},
	}}}
	var text strings.Builder
	writeTimeline(&text, terminal.Terminal{}, lines)
	require.Equal(t, `0001-01-01T00:00:00Z  -  DIAGNOSIS
  I       -            |            2       E
  N       4            |            -       S
  T       1            |##########  2       F
  J       -            |            -       P
  genres  -
  topics  -
  scale: a full bar is a lead of 1 point, each # is 0.1
`, text.String())
	text.Reset()
	require.NoError(t, writeJSON(&text, lines))
	require.Contains(t, strings.Join(strings.Fields(text.String()), ""),
		`"scores":{"i":null,"e":2,"s":null,"n":4,"t":1,"f":2,"j":null,"p":null}`)
}

// The mean is at one place in all bars, and takes no character away. What is too long is cut, as text only.
func TestScoresText(t *testing.T) {
	t.Parallel()
	score := func(name string, score float64, favorite bool) history.Ranked {
		return history.Ranked{Name: name, Score: &score, Favorite: favorite}
	}
	current := history.Current{
		Genres: history.Ranking{Mean: new(8.0), Scores: []history.Ranked{
			score("별주부전", 14, true), score("متعة", 8, true), score("Art", 2, false), score("Sports", -6, false),
			{Name: "Lost"},
		}},
		Topics: history.Ranking{Scores: []history.Ranked{score("Cats", -1, false)}},
	}
	text := func(to terminal.Terminal, rule scores.Preference) string {
		var text strings.Builder
		require.NoError(t, writeScores(&text, to, rule, current))
		return text.String()
	}
	require.Equal(t, `GENRE NOW  SCORE  FAVORITE          : mean 8
별주부전      14  yes          |####:###
متعة           8  yes          |####:
Art            2  -            |#   :
Sports        -6  -         ###|    :
Lost           -  -            |    :
TOPIC NOW  SCORE  FAVORITE
Cats          -1  -           #|
  scale: a full bar is a score of 20 points, each # is 2
  a favorite has at least the mean of the scores above zero
`, text(terminal.Terminal{}, scores.MeanOfPositive))
	require.Contains(t, text(terminal.Terminal{}, scores.AboveMeanOfNonnegative),
		"  a favorite has more than the mean of the scores that are not below zero\n")
	wide := text(terminal.Terminal{Width: 60, Color: true}, scores.MeanOfPositive)
	require.Contains(t, wide, "별주부전      14  yes          │████┊███\n")
	requireFits(t, 60, wide)
	narrow := text(terminal.Terminal{Width: 30}, scores.MeanOfPositive)
	require.NotContains(t, narrow, "█\n", "the bars are left out first")
	requireFits(t, 30, narrow)

	for range 9 {
		current.Topics.Scores = append(current.Topics.Scores, score("More", -2, false))
	}
	require.NotContains(t, text(terminal.Terminal{}, scores.MeanOfPositive), "more;")
	current.Topics.Scores = append(current.Topics.Scores, score("Least", -90, false), score("Last", -91, false))
	cut := text(terminal.Terminal{}, scores.MeanOfPositive)
	require.Contains(t, cut, "  and 2 more; -o json has all\n  scale: a full bar is a score of 20 points")

	current = history.Current{}
	require.Equal(t, "no scores of genres or topics now\n", text(terminal.Terminal{}, scores.MeanOfPositive))
}

func TestEndOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"2026-12-31":                  "2027-01-01T00:00:00Z",
		"2026-10-31T12:00:00Z":        "2026-10-31T12:00:01Z",
		"2026-10-31T12:00:00.5+02:00": "2026-10-31T10:00:00.500001Z",
		"":                            "",
		"yesterday":                   "",
		"2026-02-30":                  "",
		"2026-10-31T12:00:00":         "",
	} {
		got, err := endOf(text)
		if want == "" {
			require.ErrorIs(t, err, errUsage, text)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, want, got.UTC().Format(time.RFC3339Nano), text)
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	database := testenv.Database(t)
	admin, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = admin.Close(t.Context()) })
	_, err = admin.PgConn().Exec(t.Context(), `
		INSERT INTO child_profile (id, name) VALUES (1, 'c'), (2, 'd'); INSERT INTO genre (id, name)
			VALUES (1, 'Art'), (2, 'Cats');
		INSERT INTO child_personality_history (id, child_profile_id, created_at, history_created_type, mbti_id, i_score)
			SELECT i, 1, '2026-03-01T12:00:00Z'::timestamptz + i * interval '1 day',
				CASE WHEN i = 1 THEN 'DIAGNOSIS' ELSE 'FEEDBACK' END, i, i FROM generate_series(1, 5) i;
		UPDATE child_personality_history SET is_deleted = true, deleted_at = created_at WHERE id = 4;
		INSERT INTO favorite_genre VALUES (1, 2, 1), (1, 3, 2);
		INSERT INTO aggregator.run (key, kind, host, version, started_at, seen_at, finished_at, outcome, read, applied, dead,
			profiles, chunks)
			SELECT i, kind, 'h', 'v', day::date, day::date, CASE WHEN kind <> 'service' THEN day::date + 1 END,
				CASE WHEN kind <> 'service' THEN 'done' END, 0, 0, 0, 0, 0
			FROM (VALUES (1, 'drain', '2026-03-02'), (2, 'drain', '2026-03-03'), (3, 'drain', '2026-03-04'), (4, 'drain',
				'2026-03-04'),
				(5, 'purge', '2026-03-05'), (6, 'purge', '2026-03-06'), (7, 'drain', '2026-03-06'), (8, 'service',
					'2026-03-06')) r (i, kind, day)`).ReadAll()
	require.NoError(t, err)
	env := []string{"AGGREGATOR_POSTGRES_URL=" + testenv.As(t, database, "aggregator_reader")}

	type snapshot struct {
		ID     int64           `json:"id"`
		Run    *runName        `json:"run"`
		Change *history.Change `json:"change"`
	}
	read := func(args ...string) (snapshots []snapshot) {
		t.Helper()
		r := program(t, env, append([]string{"history", "1", "-o", "json"}, args...)...)
		r.requireDone(t)
		var document struct {
			Snapshots []snapshot `json:"snapshots"`
		}
		require.NoError(t, json.Unmarshal([]byte(r.stdout), &document))
		return document.Snapshots
	}
	all := read()
	require.Len(t, all, 4)
	require.Equal(t, &runName{7, "drain"}, all[0].Run, "the service was gone by noon, and a purge writes none")
	require.Nil(t, all[1].Run, "there were two")
	require.Equal(t, &runName{2, "drain"}, all[2].Run)
	require.Nil(t, all[3].Run, "not of our doing")
	require.Equal(t, []string{"Cats"}, all[1].Change.GenresGained)
	require.Equal(t, []string{"Art"}, all[1].Change.GenresLost)

	ids := func(snapshots []snapshot) (list []int64) {
		for _, s := range snapshots {
			list = append(list, s.ID)
		}
		return list
	}
	require.Equal(t, []int64{5, 4}, ids(read("--deleted", "--limit", "2")))
	require.Equal(t, []int64{3}, ids(read("--at", "2026-03-05")))
	require.Equal(t, []int64{4}, ids(read("--at", "2026-03-05", "--deleted")))
	require.Equal(t, []int64{2}, ids(read("--at", "2026-03-03T12:00:00Z")))
	require.Equal(t, []int64{1}, ids(read("--at", "2026-03-03T11:59:59Z")))
	require.Equal(t, []int64{3, 2}, ids(read("--at", "2026-03-04", "--limit", "2")))
	require.Empty(t, read("--at", "2026-03-01"))

	r := program(t, env, "history", "1", "--limit", "1")
	r.requireDone(t)
	require.True(t, strings.HasPrefix(r.stdout, "2026-03-06T12:00:00Z  "), r.stdout)
	require.Contains(t, r.stdout, "FEEDBACK  during drain 7\n")
	require.Equal(t, "profile 2 has no history yet\n", program(t, env, "history", "2").stdout)
	require.Equal(t, "profile 1 has no history at that time\n",
		program(t, env, "history", "1", "--at", "2020-01-01").stdout)
	program(t, env, "history", "404").requireFailure(t, exitFailed, "profile 404: no such child profile")
	program(t, env, "history", "x").requireFailure(t, exitUsage, "want the id of a child profile")
	program(t, env, "history", "1", "--limit", "0").requireFailure(t, exitUsage, "want at least 1")
	program(t, env, "history", "1", "--at", "noon").requireFailure(t, exitUsage, `--at = "noon": want a day`)
	program(t, env, "history", "1", "--at", "").requireFailure(t, exitUsage, `--at = "": want a day`)
}
