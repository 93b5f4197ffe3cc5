// Package doctor looks for what is wrong with the servers, or will be one day, before it
// shows: settings that lose data, rights and indexes that are missing, a pooler that no
// setting names. It has the rights of the daemon, and changes nothing: what it tries it rolls back.
package doctor

import (
	"fmt"
	"time"
)

// Verdict is what came of a check.
type Verdict string

// Unknown is for what could not be looked at, or cannot be told now.
const (
	OK      Verdict = "ok"
	Warning Verdict = "warning" // it works, but not as well as it could, or not for long
	Problem Verdict = "problem" // events may be lost, or the daemon does not work
	Unknown Verdict = "unknown"
)

// Finding is the outcome of one check. Its names are those of the JSON form.
type Finding struct {
	Server  string  `json:"server"`
	Check   string  `json:"check"`
	Verdict Verdict `json:"verdict"`
	Found   string  `json:"found"`
	Advice  string  `json:"advice,omitempty"` // what to do; empty if nothing is
}

// Summary counts findings by their verdicts. Its names are those of the JSON form.
type Summary struct {
	OK       int `json:"ok"`
	Warnings int `json:"warnings"`
	Problems int `json:"problems"`
	Unknown  int `json:"unknown"`
}

// Summarize counts.
func Summarize(findings []Finding) (s Summary) {
	for _, f := range findings {
		switch f.Verdict {
		case OK:
			s.OK++
		case Warning:
			s.Warnings++
		case Problem:
			s.Problems++
		case Unknown:
			s.Unknown++
		}
	}
	return s
}

// String is as in "9 ok, 2 warnings, 0 problems"; what is unknown is in it if there is any.
func (s Summary) String() string {
	text := fmt.Sprintf("%d ok, %s, %s", s.OK, count(s.Warnings, "warning"), count(s.Problems, "problem"))
	if s.Unknown > 0 {
		text += fmt.Sprintf(", %d unknown", s.Unknown)
	}
	return text
}

// count is as in "1 problem", "2 problems".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// report gathers the findings about one server.
type report struct {
	server   string
	findings []Finding
}

func (r *report) ok(check, format string, args ...any) {
	r.add(check, OK, fmt.Sprintf(format, args...), "")
}

func (r *report) add(check string, verdict Verdict, found, advice string) {
	r.findings = append(r.findings, Finding{r.server, check, verdict, found, advice})
}

// notSeen is for a check that could not be made.
func (r *report) notSeen(check string, err error) {
	r.add(check, Unknown, "could not check: "+err.Error(), "")
}

// clockSlack is how far clocks may be apart before ages and log lines mislead.
const clockSlack = 2 * time.Second

// clock compares a server's time with ours, in the middle of the question.
func (r *report) clock(theirs time.Time, asked, answered time.Time) {
	ours := asked.Add(answered.Sub(asked) / 2)
	off := theirs.Sub(ours).Round(time.Millisecond)
	// What the way took may all have been in one direction.
	if apart := off.Abs() - answered.Sub(asked)/2; apart > clockSlack {
		r.add("clock", Warning, fmt.Sprintf("it differs by %s from this host's", off),
			"synchronize the clocks of all machines (NTP): ages of events and leases depend on them")
		return
	}
	r.ok("clock", "within %s of this host's", clockSlack)
}
