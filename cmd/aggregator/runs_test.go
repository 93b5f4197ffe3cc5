package main

import (
	"encoding/json"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/internal/postgres"
	"aggregator/internal/runs"
	"aggregator/internal/testenv"
)

func (s *pair) runs(args ...string) []runLine {
	s.t.Helper()
	r := s.program(append([]string{"runs", "-o", "json"}, args...)...)
	r.requireDone(s.t)
	var document struct{ Runs []runLine }
	require.NoError(s.t, json.Unmarshal([]byte(r.stdout), &document))
	return document.Runs
}

func TestRuns(t *testing.T) {
	s := newPair(t)
	r := s.program("runs")
	r.requireDone(t)
	require.Equal(t, "no runs yet\n", r.stdout)

	s.push("1:1:LIKE", "2:1:LIKE", "junk")
	require.Equal(t, exitEventsLeft, s.program("drain", "--max-events", "2").code)
	s.program("drain").requireDone(t)
	s.program("drain", "--dry-run").requireDone(t) // leaves no trace
	s.exec(`REVOKE INSERT ON aggregator.checkpoint FROM aggregator_daemon; REVOKE UPDATE ON aggregator.checkpoint FROM ` +
		`aggregator_daemon`)
	s.push("1:1:LIKE")
	refused := s.program("drain")
	refused.requireFailure(t, exitFailed, "permission denied for table checkpoint")
	require.Contains(t, refused.said(), " (PostgreSQL at "+postgres.Describe(s.db.Config().ConnString())+")\n")

	all := s.runs()
	require.Len(t, all, 3)
	require.Equal(t, runs.Failed, all[0].Outcome)
	require.Contains(t, all[0].Error, "permission denied for table checkpoint")
	require.Equal(t, runs.Done, all[1].Outcome)
	require.EqualValues(t, 1, all[1].Read)
	require.EqualValues(t, 1, all[1].Dead)
	require.Equal(t, runs.Limited, all[2].Outcome)
	require.EqualValues(t, 2, all[2].Read)
	require.EqualValues(t, 1, all[2].Applied)
	require.EqualValues(t, 1, all[2].Chunks)
	require.Positive(t, all[2].Rate)
	require.Equal(t, programVersion(), all[2].Version)
	require.Len(t, s.runs("--last", "2"), 2)
	require.Empty(t, s.runs("--kind", "service"))

	r = s.program("runs", "--kind", "service")
	r.requireDone(t)
	require.Equal(t, "no runs of this kind yet: service\n", r.stdout)
	r = s.program("runs", "--kind", "drain")
	r.requireDone(t)
	require.Regexp(t, `(?m)^ID +KIND +STARTED +TOOK +OUTCOME +READ +APPLIED +DEAD +RATE +ERROR OR NOTE$`, r.stdout)
	r = s.program("runs", "--kind", "drain", "-o", "wide")
	r.requireDone(t)
	require.Regexp(t, `(?m)^ID +KIND +STARTED +TOOK +OUTCOME +READ +APPLIED +DEAD +PROFILES +CHUNKS +RATE +HOST `+
		`+VERSION +ERROR OR NOTE$`, r.stdout)
	require.Regexp(t, `(?m)^ *\d+ +drain +\S+Z +\S+s +limited +2 +1 +1 +1 +1 +[\d,]+/s +\S+ +unknown +source `+
		`book-like-events$`, r.stdout)

	r = s.program("runs", "show", fmt.Sprint(all[0].ID))
	r.requireDone(t)
	require.Regexp(t, `(?m)^outcome +failed$`, r.stdout)
	require.Regexp(t, `(?m)^note +source book-like-events$`, r.stdout)
	require.Regexp(t, `(?m)^error +.*permission denied for table checkpoint`, r.stdout)
	r = s.program("runs", "show", fmt.Sprint(all[2].ID), "-o", "json")
	r.requireDone(t)
	var one runLine
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &one))
	require.Equal(t, all[2], one)
	s.program("runs", "show", "999").requireFailure(
		t, exitFailed, "run 999: no such run; aggregator runs lists those that are kept")
	s.program("runs", "show", "x").requireFailure(
		t, exitUsage, `ID = "x": want the one that aggregator runs shows, a whole number`)
	s.program("runs", "17").requireFailure(t, exitUsage, `unknown command "17"`)

	s.program("runs", "--last", "0").requireFailure(t, exitUsage, "--last = 0: want at least 1")
}

func TestErrorOrNote(t *testing.T) {
	both := runLine{Error: "an error\nof two lines\n", Note: "a note"}
	require.Equal(t, "an error of two lines; a note", both.errorOrNote())
	require.Equal(t, "a note", runLine{Note: " a note"}.errorOrNote())
	require.Empty(t, runLine{}.errorOrNote())
}

// A service that is killed is shown as interrupted, and the next one is not held up by it.
func TestRunsOfTheService(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	s.env = append(s.env, "AGGREGATOR_LEASE_TTL=0s")
	p := s.start()
	require.Eventually(t, func() bool { return len(s.runs()) == 1 }, patience, time.Millisecond)
	require.NoError(t, p.cmd.Process.Kill())
	_ = p.cmd.Wait()
	require.Equal(t, runs.Running, s.runs()[0].Outcome, "nobody knows yet")
	s.exec(`UPDATE aggregator.run SET started_at = started_at - interval '2 minutes', seen_at = seen_at - interval '1 ` +
		`minute'`)

	p = s.start()
	s.push("1:1:LIKE", "junk")
	s.settled("2")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.cmd.Wait())
	all := s.runs("--kind", "service")
	require.Len(t, all, 2)
	require.Equal(t, runs.Interrupted, all[1].Outcome)
	require.Nil(t, all[1].Finished)
	require.Equal(t, runs.Stopped, all[0].Outcome)
	require.EqualValues(t, 2, all[0].Read)
	require.EqualValues(t, 1, all[0].Applied)
	require.EqualValues(t, 1, all[0].Dead)

	_, report := s.status()
	require.Len(t, report.Runs, 1)
	require.Equal(t, all[0], report.Runs[0])
	require.Regexp(t, `(?m)^last service: stopped after \S+s at \S+Z, read 2, dead 1$`, s.program("status").stdout)
}
