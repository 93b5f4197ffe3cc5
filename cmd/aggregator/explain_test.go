package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/internal/history"
	"aggregator/internal/testenv"
)

// newExplained is a pair whose profile 1 has two rows of history: it liked book 1, an INTJ; then twice book 2, an
// ESFP, and book 1 no more. So has the profile with the greatest id.
func newExplained(t *testing.T) *pair {
	t.Helper()
	s := newPair(t)
	s.exec(`INSERT INTO genre (id, name) VALUES (1, 'Art'), (2, 'Cats');
		INSERT INTO topic (id, name) VALUES (1, '해와 달');
		DELETE FROM book;
		INSERT INTO book (id, title, genre_id) VALUES (1, '<script>', 1), (2, 'Two', 2);
		INSERT INTO book_topic VALUES (1, 1);
		INSERT INTO book_mbti SELECT 1, id FROM mbti WHERE mbti = 'INTJ';
		INSERT INTO book_mbti SELECT 2, id FROM mbti WHERE mbti = 'ESFP';
		INSERT INTO child_profile (id, name) VALUES (2, 'new'), (9223372036854775807, 'last')`)
	s.env = append(s.env, "AGGREGATOR_JOURNAL_KEEP=1h")
	for _, id := range []string{"1", "9223372036854775807"} {
		s.push(id + ":1:LIKE")
		s.program("drain").requireDone(t)
		s.push(id+":2:LIKE", id+":2:LIKE", id+":1:DISLIKE")
		s.program("drain").requireDone(t)
	}
	return s
}

func (s *pair) explain(args ...string) (e history.Explanation) {
	s.t.Helper()
	r := s.program(append([]string{"explain", "-o", "json"}, args...)...)
	r.requireDone(s.t)
	require.NoError(s.t, json.Unmarshal([]byte(r.stdout), &e), r.stdout)
	return e
}

func (s *pair) historyIDs() (ids []int64) {
	s.t.Helper()
	require.NoError(s.t, s.db.QueryRow(s.t.Context(),
		`SELECT array_agg(id ORDER BY id) FROM child_personality_history WHERE child_profile_id = 1`).Scan(&ids))
	return ids
}

func TestExplain(t *testing.T) {
	s := newExplained(t)
	ids := s.historyIDs()
	for _, profile := range []string{"1", "9223372036854775807"} {
		e := s.explain(profile)
		require.Equal(t, profile, strconv.FormatInt(e.ProfileID, 10))
		require.True(t, e.Explained)
		require.Zero(t, e.Unexplained)
		require.Equal(t, "ESFP", e.Type)
		require.Equal(t, "INTJ", e.TypeBefore)
		require.Equal(t, key, e.Source)
		require.Len(t, e.Events, 3)
		require.Equal(t, []float64{2, 2, -2}, []float64{e.Events[0].Weight, e.Events[1].Weight, e.Events[2].Weight})
		third := e.Events[2]
		require.EqualValues(t, 1, third.BookID)
		require.Equal(t, "<script>", *third.Title)
		require.Equal(t, "Art", *third.Genre)
		require.Equal(t, []string{"해와 달"}, third.Topics)
		require.Equal(t, "INTJ", third.MBTI)
		at := func(n int) (*string, *int64) { return &e.Events[n].Position, &e.Events[n].BookID }
		turn := func(kind, name, from, to string, event int) history.Turn {
			position, book := at(event)
			return history.Turn{Kind: kind, Name: name, From: from, To: to, Position: position, BookID: book}
		}
		require.Equal(t, []history.Turn{
			turn("dimension", "I/E", "I", "E", 1), turn("dimension", "N/S", "N", "S", 1),
			turn("dimension", "T/F", "T", "F", 1), turn("dimension", "J/P", "J", "P", 1),
			turn("genre", "Cats", "", "favorite", 0), turn("genre", "Art", "favorite", "", 1),
			turn("topic", "해와 달", "favorite", "", 2),
		}, e.Turned)
	}

	e := s.explain("1", "--history", strconv.FormatInt(ids[0], 10))
	require.Nil(t, e.Before, "the first one")
	require.True(t, e.Explained)
	require.Equal(t, []string{"genre", "topic"}, []string{e.Turned[0].Kind, e.Turned[1].Kind})
	e = s.explain("1", "--genre", "Art", "--at", "2100-01-01")
	require.Equal(t, ids[1], e.HistoryID)
	require.Len(t, e.Events, 1)
	require.Len(t, e.Turned, 1)
	e = s.explain("1", "--dimension", "T/F")
	require.Len(t, e.Events, 3)
	require.Len(t, e.Turned, 1)

	none := s.program("explain", "1", "--genre", "Nothing")
	none.requireDone(t)
	require.Contains(t, none.stdout, "  none of its events is of that genre or dimension\n")

	shown := s.program("explain", "1")
	shown.requireDone(t)
	lines := strings.Split(shown.stdout, "\n")
	require.Regexp(t, `^\d{4}-\S+Z  ESFP, was INTJ  snapshot \d+, after \d+$`, lines[0])
	require.Regexp(t, `^  I became E by \d+-\d+ on book 2$`, lines[1])
	require.Regexp(t, `^  genre Cats became a favorite by \d+-\d+ on book 2$`, lines[5])
	require.Regexp(t, `^  topic 해와 달 is no favorite any more by \d+-\d+ on book 1$`, lines[7])
	require.Equal(t, "  explained to the last point", lines[8])
	require.Regexp(t, `^POSITION +BOOK +TITLE +ADDED +MBTI +LEADS +GENRE +TOPICS$`, lines[9])
	require.Regexp(t, `^\d+-\d+ +2  Two +\+2  ESFP  I 0  N 0  T 0  J 0  Cats +-$`, lines[10])
	require.Regexp(t, `^\d+-\d+ +1  <script> +-2  INTJ  E 4  S 4  F 4  P 4  Art +해와 달$`, lines[12])
}

// After each event: what the letters have scored, also on a terminal; and what genres and topics score now.
func TestExplainShowsScores(t *testing.T) {
	testenv.Long(t)
	s := newExplained(t)
	e := s.explain("1")
	require.Equal(t, history.Scores{I: 2, N: 2, T: 2, J: 2, E: 2, S: 2, F: 2, P: 2}, e.Events[0].After)
	require.Equal(t, history.Scores{E: 4, S: 4, F: 4, P: 4}, e.Events[2].After)

	one := s.onTerminal(80, nil, "explain", "1", "--dimension", "T/F")
	require.Regexp(t, `(?m) ESFP  T 0            │            Cats`, one)
	require.Regexp(t, `(?m) ESFP  F 2            │████        Cats`, one)
	require.Contains(t, one, "  scale: a full bar is a lead of 5 points, each █ is 0.5\n")
	for _, columns := range []int{60, 80, 100, 120} {
		for _, args := range []string{"explain 1 --scores", "explain 1 --dimension T/F", "history 1 --scores"} {
			requireFits(t, columns, s.onTerminal(columns, nil, strings.Fields(args)...))
		}
	}
	require.NotContains(t, s.onTerminal(60, nil, "explain", "1"), "LEADS")
	require.Contains(t, s.onTerminal(80, nil, "explain", "1"), "LEADS")

	s.exec(`UPDATE genre_score SET score = -2 WHERE child_profile_id = 1 AND genre_id = 1`)
	for _, command := range []string{"explain", "history"} {
		r := s.program(command, "1")
		r.requireDone(t)
		require.NotContains(t, r.stdout, "NOW")
		r = s.program(command, "1", "--scores")
		r.requireDone(t)
		require.Contains(t, r.stdout, `
GENRE NOW  SCORE  FAVORITE               : mean 4
Cats           4  yes           |########:
Art           -2  -         ####|        :
TOPIC NOW  SCORE  FAVORITE
해와 달        0  -             |
  scale: a full bar is a score of 5 points, each # is 0.5
  a favorite has at least the mean of the scores above zero
`)
		var document struct {
			ProfileID *int64           `json:"child_profile_id"`
			Profile   *int64           `json:"profile"`
			ScoresNow *history.Current `json:"scores_now"`
		}
		r = s.program(command, "1", "--scores", "-o", "json")
		r.requireDone(t)
		require.NoError(t, json.Unmarshal([]byte(r.stdout), &document))
		require.NotEqual(t, document.ProfileID == nil, document.Profile == nil, "as without it")
		require.Equal(t, &history.Current{
			Genres: history.Ranking{Mean: new(4.0), Scores: []history.Ranked{
				{ID: 2, Name: "Cats", Score: new(4.0), Favorite: true}, {ID: 1, Name: "Art", Score: new(-2.0)},
			}},
			Topics: history.Ranking{Scores: []history.Ranked{{ID: 1, Name: "해와 달", Score: new(0.0)}}},
		}, document.ScoresNow)
		require.NotContains(t, s.program(command, "1", "-o", "json").stdout, "scores_now")
	}
}

// Of later rows the journal is read only if a favorite turned: what is broken there does not matter otherwise.
func TestExplainReadsNoMoreThanItNeeds(t *testing.T) {
	s := scored(t)
	s.env = append(s.env, "AGGREGATOR_JOURNAL_KEEP=1h")
	for range 3 {
		s.push("1:1:LIKE")
		s.program("drain").requireDone(t)
	}
	ids := s.historyIDs()
	id := func(n int) string { return strconv.FormatInt(ids[n], 10) }
	require.True(t, s.explain("1", "--history", id(0)).Explained)
	s.exec(`UPDATE aggregator.journal SET positions = '{}' WHERE history_id = ` + id(2))
	s.program("explain", "1").requireFailure(t, exitFailed, "the journal has 0 positions, 1 books")
	s.program("explain", "1", "--history", id(0)).requireFailure(t, exitFailed, "the journal has 0 positions, 1 books")
	e := s.explain("1", "--history", id(1))
	require.True(t, e.Explained)
	require.Empty(t, e.Turned)
}

// What is not there, or not any more, is said.
func TestExplainOfWhatIsGone(t *testing.T) {
	testenv.Long(t)
	s := newExplained(t)
	ids := s.historyIDs()
	for args, want := range map[string]string{
		"404":                           "profile 404: no such child profile",
		"2":                             "profile 2: no such row of history",
		"1 --history 99":                "explaining row 99 of profile 1: no such row of history",
		"1 --at 2001-1-1":               `--at = "2001-1-1": want a day`,
		"1 --at 2001-01-01":             "profile 1: no such row of history",
		"9223372036854775808":           "want the id of a child profile",
		"1 --dimension E/I":             `--dimension = "E/I": want I/E, N/S, T/F or J/P`,
		"1 --history 0":                 "--history = 0: want the id of a snapshot",
		"1 --history 1 --at 2001-01-01": "want --at or --history, not both",
	} {
		r := s.program(append([]string{"explain"}, strings.Fields(args)...)...)
		require.NotZero(t, r.code, args)
		require.Contains(t, r.stderr, want, args)
	}

	s.exec(`DELETE FROM book_mbti WHERE book_id = 2; DELETE FROM book WHERE id = 2`)
	e := s.explain("1")
	require.False(t, e.Explained)
	require.Equal(t, history.Scores{E: 4, S: 4, F: 4, P: 4}, e.Unexplained)
	require.Nil(t, e.Events[0].Title)
	require.Nil(t, e.Turned[0].Position)
	require.Contains(t, s.program("explain", "1").stdout,
		"I became E, by none of these events alone\n")
	require.Contains(t, s.program("explain", "1").stdout, "  not explained by these events: E +4, S +4, F +4, P +4\n")

	s.exec(fmt.Sprintf(`DELETE FROM child_personality_history WHERE id = %d`, ids[0]))
	e = s.explain("1")
	require.Nil(t, e.Before)
	require.Equal(t, history.Scores{I: 2, E: 4, S: 4, N: 2, T: 2, F: 4, J: 2, P: 4}, e.Unexplained)

	s.exec(`DELETE FROM aggregator.journal`)
	s.program("explain", "1").requireFailure(t, exitFailed, "the journal has nothing of it")
}

// Without journal.keep nothing is kept, and with it the doctor tries the journal.
func TestJournalIsOffByDefault(t *testing.T) {
	s := newPair(t)
	s.push("1:1:LIKE")
	s.program("drain").requireDone(t)
	s.program("explain", "1").requireFailure(t, exitFailed, "it was not kept when the row was written")
	s.exec(`REVOKE EXECUTE ON PROCEDURE aggregator.apply_each_journaled FROM PUBLIC, aggregator_daemon`)
	require.NotContains(t, s.program("doctor").stdout, "apply_each_journaled")
	s.env = append(s.env, "AGGREGATOR_JOURNAL_KEEP=1h")
	require.Contains(t, s.program("doctor").stdout, "apply_each_journaled")
	s.push("1:1:LIKE")
	require.Contains(t, s.program("drain").said(), "apply_each_journaled")
}

// Erasing asks, and is recorded.
func TestErase(t *testing.T) {
	testenv.Long(t)
	s := newExplained(t)
	s.push("1:77:LIKE")
	require.Zero(t, s.program("drain").code)
	daemon := s.env
	s.env = append(s.env, "AGGREGATOR_POSTGRES_URL="+testenv.As(t, s.db.Config().ConnString(), "aggregator_purge"))
	s.program("erase", "1").requireFailure(t, exitUsage, "this would remove 2 rows of the journal, and empty "+
		"1 dead letter, of which 1 is not settled; pass --yes to confirm")
	s.program("erase", "1", "--yes", "--dry-run").requireFailure(t, exitUsage, "not both")
	dry := s.program("erase", "1", "--dry-run", "-o", "json")
	dry.requireDone(t)
	require.JSONEq(t,
		`{"child_profile_id": 1, "dry_run": true, "journal": 2, "dead_letters": 1, "dropped": 1}`, dry.stdout)
	done := s.program("erase", "1", "--yes")
	done.requireDone(t)
	require.Equal(t, "removed 2 rows of the journal, and emptied 1 dead letter, of which 1 was not settled\n", done.stdout)
	require.Contains(t, s.program("runs", "--kind", "erase").stdout, "done")
	s.env = daemon
	s.program("verify").requireDone(t)
	s.program("explain", "1").requireFailure(t, exitFailed, "the journal has nothing of it")
	s.program("explain", "9223372036854775807").requireDone(t)
}
