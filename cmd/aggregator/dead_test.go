package main

import (
	"encoding/json"
	"fmt"
	"os/user"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

const key = "book-like-events"

// deadWorld is a database with a profile and a book, and dead letters on what is not there.
type deadWorld struct {
	t   *testing.T
	env []string
	db  *pgx.Conn
}

// newDeadWorld drains these events, pushed as entries 1-0, 2-0 and so on.
func newDeadWorld(t *testing.T, texts ...string) *deadWorld {
	t.Helper()
	t.Parallel()
	database, server := testenv.Database(t), testenv.Redis(t)
	db, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close(t.Context()) })
	w := &deadWorld{t, []string{"DATABASE_URL=" + database, "REDIS_URL=" + server}, db}
	w.exec(`INSERT INTO genre (id, name) VALUES (1, 'g')`)
	w.exec(`INSERT INTO book (id, title, genre_id) VALUES (1, 'b', 1)`)
	w.exec(`INSERT INTO child_profile (id, name) VALUES (1, 'c')`)
	o, err := redis.ParseURL(server)
	require.NoError(t, err)
	client := redis.NewClient(o)
	defer client.Close()
	for i, text := range texts {
		require.NoError(t, client.XAdd(
			t.Context(), &redis.XAddArgs{Stream: key, ID: fmt.Sprintf("%d-0", i+1), Values: []any{"event", text}}).Err())
	}
	w.run("drain")
	return w
}

func (w *deadWorld) exec(sql string, args ...any) {
	w.t.Helper()
	_, err := w.db.Exec(w.t.Context(), sql, args...)
	require.NoError(w.t, err)
}

// program runs a command, whatever its outcome.
func (w *deadWorld) program(command string) result {
	w.t.Helper()
	return program(w.t, w.env, strings.Fields(command)...)
}

// run runs a command that must not fail, and returns what it printed.
func (w *deadWorld) run(command string) string {
	w.t.Helper()
	r := w.program(command)
	require.Zero(w.t, r.code, r.stderr)
	return r.stdout
}

// list returns the letters that list chooses, by position.
func (w *deadWorld) list(flags string) map[string]letterDocument {
	w.t.Helper()
	var list struct {
		Letters []letterDocument `json:"dead_letters"`
	}
	require.NoError(w.t, json.Unmarshal([]byte(w.run("dead list -o json "+flags)), &list))
	letters := map[string]letterDocument{}
	for _, l := range list.Letters {
		require.Equal(w.t, key, l.Source)
		letters[l.Position] = l
	}
	require.Len(w.t, letters, len(list.Letters))
	return letters
}

func (w *deadWorld) score(profile int64) (score float64) {
	w.t.Helper()
	require.NoError(w.t, w.db.QueryRow(
		w.t.Context(), `SELECT coalesce(sum(score), 0) FROM genre_score WHERE child_profile_id = $1`, profile).Scan(&score))
	return score
}

func TestDeadList(t *testing.T) {
	w := newDeadWorld(t, "1:1:LIKE", "2:1:LIKE", "1:2:LIKE", "1:1:EAT", "\xff\x00", "")
	w.exec(`UPDATE aggregator.dead_letter SET created_at = now() - interval '2 hours' WHERE position_ms = 4`)

	all := w.list("")
	require.Len(t, all, 5)
	for flags, want := range map[string]string{
		"--reason unknown_profile":              "2-0",
		"--reason unknown_book,unknown_action":  "3-0 4-0",
		"--older-than 1h":                       "4-0",
		"--newer-than 1h":                       "2-0 3-0 5-0 6-0",
		"--older-than 1h --newer-than 3h":       "4-0",
		"--profile 1":                           "3-0 4-0",
		"--source other":                        "",
		"--source " + key + " --limit 1":        "2-0", // the first
		"--limit 0":                             "2-0 3-0 4-0 5-0 6-0",
		"--limit 2 --newer-than 1h --profile 2": "2-0",
	} {
		got := w.list(flags)
		for _, position := range strings.Fields(want) {
			require.Contains(t, got, position, flags)
		}
		require.Len(t, got, len(strings.Fields(want)), flags)
	}
	require.Equal(t, "unknown_action", all["4-0"].Reason)
	require.Equal(t, `action is "EAT"`, all["4-0"].Detail)
	require.Equal(t, "1:1:EAT", *all["4-0"].Payload)
	require.Equal(t, "MToxOkVBVA==", all["4-0"].Base64)
	require.Nil(t, all["5-0"].Payload)
	require.Equal(t, "/wA=", all["5-0"].Base64)
	require.Empty(t, *all["6-0"].Payload)

	text := w.run("dead list")
	require.Regexp(t, `(?m)^SOURCE +POSITION +REASON +PROFILE +BOOK +WRITTEN AT +RETRIES +PAYLOAD$`, text)
	require.Regexp(t, `(?m)^book-like-events +2-0 +unknown_profile +2 +1 +[0-9TZ:-]+ +0 +"2:1:LIKE"$`, text)
	require.Contains(t, text, `"\xff\x00"`)
	require.Contains(t, w.run("dead list --limit 2"), "\n2 of 5 dead letters; see more with --limit\n")
	require.Equal(t, "no dead letters\n", w.run("dead list --source other"))
	require.JSONEq(t, `{"dead_letters": []}`, w.run("dead list --source other -o json"))
}

func TestDeadShow(t *testing.T) {
	w := newDeadWorld(t, "2:1:LIKE")
	text := w.run("dead show book-like-events 1-0")
	require.Regexp(t, `(?m)^reason +unknown_profile: there is no such child profile$`, text)
	require.Regexp(t, `(?m)^settled +no$`, text)
	require.Regexp(t, `(?m)^payload +event of 8 bytes: "2:1:LIKE"$`, text)
	var letter letterDocument
	require.NoError(t, json.Unmarshal([]byte(w.run("dead show book-like-events 1-0 -o json")), &letter))
	require.EqualValues(t, 2, *letter.ProfileID)
	w.program("dead show book-like-events 1-1").requireFailure(t, 1, "book-like-events 1-1: no such dead letter")
	w.program("dead show book-like-events now").requireFailure(
		t, 64, `POSITION = "now": want the one that dead list shows`)
}

func TestDeadRetry(t *testing.T) {
	testenv.Long(t)
	w := newDeadWorld(t, "2:1:LIKE", "3:1:LIKE", "1:1:EAT", "2:1:LIKE")
	w.program("dead retry book-like-events 1-0").requireFailure(
		t, 1, "book-like-events 1-0 still cannot be applied: there is no such child profile")
	failed := w.program("dead retry --all-unsettled")
	require.Equal(t, 1, failed.code)
	require.Equal(t, "applied 0 of 4 dead letters; 0 settled before, 4 still dead\n  1: action is \"EAT\"\n  3: there "+
		"is no such child profile\n", failed.stdout)
	require.Equal(t, "aggregator: 4 of 4 dead letters still cannot be applied\n", failed.stderr)
	require.Equal(t, 2, w.list("")["1-0"].Attempts)

	w.exec(`INSERT INTO child_profile (id, name) VALUES (2, 'late')`)
	require.Equal(t, "applied 1 of 1 dead letter; 0 settled before, 0 still dead\n",
		w.run("dead retry book-like-events 1-0"))
	w.program("dead retry book-like-events 1-0").requireFailure(
		t, 1, "book-like-events 1-0: the dead letter is settled already: applied at 2")
	require.InDelta(t, 2, w.score(2), 0)
	require.JSONEq(t, `{"tried": 1, "applied": 1, "settled_before": 0, "still_dead": 0, "why": {}}`,
		untimed(w.run("dead retry --profile 2 -o json")))
	require.InDelta(t, 4, w.score(2), 0)
	require.Equal(t, "applied 0 of 0 dead letters; 0 settled before, 0 still dead\n", w.run("dead retry --profile 2"))

	// The settings in force say what an action is worth.
	require.Contains(t, w.run("dead retry --reason unknown_action --limit 5 --events-weights EAT=7"),
		"applied 1 of 1 dead letter")
	require.InDelta(t, 7, w.score(1), 0)
	require.Len(t, w.list(""), 1)
	settled := w.list("--all")
	require.Equal(t, "applied", *settled["3-0"].SettledAs)
	require.NotNil(t, settled["3-0"].Settled)
	require.Regexp(t, `(?m)^book-like-events +3-0 +unknown_action +1 +1 +[0-9TZ:-]+ +2 +applied +"1:1:EAT"$`,
		w.run("dead list --all"))
	who, err := user.Current()
	require.NoError(t, err)
	recorded := w.run("runs --kind retry -o wide")
	require.Contains(t, recorded, "by "+who.Username+": dead letters of reason unknown_action at most 5")
	require.Contains(t, recorded, "by "+who.Username+": the dead letter book-like-events 1-0")
	require.NotContains(t, recorded, "settled already", "what was not begun is not recorded")
}

func TestDeadDrop(t *testing.T) {
	testenv.Long(t)
	w := newDeadWorld(t, "2:1:LIKE", "3:1:LIKE", "1:1:EAT", "junk")
	require.Equal(t, "dropped 1 dead letter\n", w.run("dead drop book-like-events 1-0"))
	w.program("dead drop book-like-events 1-0").requireFailure(
		t, 1, "book-like-events 1-0: the dead letter is settled already: dropped at 2")
	w.program("dead drop book-like-events 1-9").requireFailure(t, 1, "no such dead letter")
	w.program("dead drop --all-unsettled").requireFailure(
		t, 64, "this would drop 3 dead letters for good; pass --yes to confirm")
	w.program("dead drop --newer-than 1h --limit 2").requireFailure(t, 64, "this would drop 2 dead letters for good")
	w.program("dead drop --reason malformed").requireFailure(
		t, 64, "this would drop 1 dead letter for good; pass --yes to confirm")
	require.Equal(t, "dropped 1 dead letter\n", w.run("dead drop --reason malformed --yes"))
	require.JSONEq(t, `{"dropped": 2}`, w.run("dead drop --all-unsettled --yes -o json"))
	require.Equal(t, "dropped 0 dead letters\n", w.run("dead drop --all-unsettled"))
	require.Equal(t, "no dead letters\n", w.run("dead list"))
	require.Len(t, w.list("--all"), 4)
	w.exec(`INSERT INTO child_profile (id, name) VALUES (2, 'late'), (3, 'late')`)
	require.Contains(t, w.run("dead retry --all-unsettled"), "applied 0 of 0")
	require.Contains(t, w.run("drain -o json"), `"retried": 0`)
	require.Regexp(t, `drop .* done +1 .* by [^ ]+: dead letters of reason malformed`, w.run("runs --kind drop -o wide"))
}

// What was unknown is applied at the end of the next drain, and reported.
func TestDrainRetries(t *testing.T) {
	w := newDeadWorld(t, "2:1:LIKE", "1:1:LIKE")
	w.exec(`INSERT INTO child_profile (id, name) VALUES (2, 'late')`)
	require.Contains(t, w.run("drain -o json --dead-retry-unknown-for 0s"), `"retried": 0`)
	require.Contains(t, w.run("drain"), "\n  retried                     1\n")
	require.InDelta(t, 2, w.score(2), 0)
}

// Most of what is there cannot be applied: run and drain end with 1 and one line.
func TestTooManyDead(t *testing.T) {
	testenv.Long(t)
	w := newDeadWorld(t)
	o, err := redis.ParseURL(strings.TrimPrefix(w.env[1], "REDIS_URL="))
	require.NoError(t, err)
	client := redis.NewClient(o)
	defer client.Close()
	for range 50 {
		entry := &redis.XAddArgs{Stream: key, Values: []any{"event", "1:1:FINISHED"}}
		require.NoError(t, client.XAdd(t.Context(), entry).Err())
	}
	for _, command := range []string{"drain", "run"} {
		r := w.program(command + " --dead-window 50 --log-level error")
		require.Equal(t, 1, r.code)
		require.Empty(t, r.stdout)
		require.Equal(t, "aggregator: source book-like-events halted: "+
			"50 of the last 50 entries cannot be applied (50 unknown_action), "+
			"more than dead.max_share = 0.5 allows; the latest are still in Redis and no dead letter of them was written; "+
			"add the action to events.weights, and start again; or raise dead.max_share\n", r.said())
	}
	require.Empty(t, w.list(""))
	require.Contains(t, w.run("drain --dead-window 50 --events-weights FINISHED=3 -o json"), `"applied": 50`)
	require.InDelta(t, 150, w.score(1), 0)
}

func TestDeadWrongUsage(t *testing.T) {
	for args, want := range map[string]string{
		"dead":                                      "dead: want one of drop, list, retry, show",
		"dead list --reason unknown":                `--reason = "unknown": want one of malformed, unknown_action,`,
		"dead list --older-than 0s":                 "--older-than = 0s: want more than 0",
		"dead list --newer-than -1h":                "--newer-than = -1h0m0s: want more than 0",
		"dead list --older-than 2h --newer-than 1h": "nothing is older than 2h0m0s and newer than 1h0m0s",
		"dead list --profile -1":                    "--profile = -1: want the id of a child profile",
		"dead list --limit -1":                      "--limit = -1: want 0 or more",
		"dead list s 1-0":                           `unexpected argument "s"`,
		"dead show s":                               "want POSITION",
		"dead retry":                                "which dead letters? Want SOURCE POSITION, or --reason",
		"dead retry --limit 5":                      "which dead letters?",
		"dead retry s":                              "or flags that choose dead letters; got 1 arguments",
		"dead retry s 1-0 --reason malformed":       "want either SOURCE POSITION or flags that choose dead letters",
		"dead retry s 1":                            `POSITION = "1": want the one that dead list shows`,
		"dead drop":                                 "which dead letters?",
		"dead drop --yes":                           "which dead letters?",
		"dead drop s 1-0 --all-unsettled":           "not both",
	} {
		t.Run(args, func(t *testing.T) {
			r := program(t, []string{"DATABASE_URL=postgres://u:hunter2@127.0.0.1:1/app"}, strings.Fields(args)...)
			r.requireFailure(t, 64, want)
		})
	}
}

func TestDeadUnreachable(t *testing.T) {
	for _, command := range []string{"list", "show s 1-0", "retry --all-unsettled", "drop --all-unsettled --yes"} {
		program(t, []string{"DATABASE_URL=postgres://u:hunter2@127.0.0.1:1/app"}, strings.Fields("dead "+command)...).
			requireFailure(t, 69, "PostgreSQL at 127.0.0.1:1/app is not reachable: connection refused")
	}
}
