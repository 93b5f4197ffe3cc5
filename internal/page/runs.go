package page

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"aggregator/internal/doctor"
	"aggregator/internal/runs"
)

const runsShown = 100

type runsBody struct {
	Kind  string
	Kinds []string
	Runs  []runs.Run
}

func (p *Page) runs(v *view) error {
	b := runsBody{Kind: v.r.Form.Get("kind")}
	latest, err := runs.LatestByKind(v.r.Context(), p.Pool)
	if err != nil {
		return err
	}
	for _, r := range latest {
		if !slices.Contains(b.Kinds, r.Kind) {
			b.Kinds = append(b.Kinds, r.Kind)
		}
	}
	if b.Kind != "" && !slices.Contains(b.Kinds, b.Kind) {
		b.Kinds = append(b.Kinds, b.Kind)
	}
	if b.Runs, err = runs.Latest(v.r.Context(), p.Pool, b.Kind, runsShown); err != nil {
		return err
	}
	v.Refresh = true
	return v.show("runs", "runs", "Runs", b)
}

func (p *Page) run(v *view) error {
	id, err := strconv.ParseInt(v.r.Form.Get("id"), 10, 64)
	if err != nil {
		return badRequest("%q is not the id of a run: want a whole number.", v.r.Form.Get("id"))
	}
	run, err := runs.Find(v.r.Context(), p.Pool, id)
	if errors.Is(err, runs.ErrNoRun) {
		return &problem{
			http.StatusNotFound, "There is no run " + strconv.FormatInt(id, 10) + ".",
			"The latest runs of each kind are kept (runs.keep).",
		}
	}
	if err != nil {
		return err
	}
	v.Refresh = run.Outcome == runs.Running
	return v.show("run", "runs", "Run "+strconv.FormatInt(id, 10), run)
}

// Took is how long a run took, or takes so far.
func (v *view) Took(r runs.Run) string {
	last := r.Seen
	if r.Ended != nil {
		last = *r.Ended
	}
	return age(last.Sub(r.Started))
}

// checkedFor is how long findings are shown before one who looks has them made again.
const checkedFor = time.Minute

// checks are the latest findings of the doctor. They are safe for concurrent use.
type checks struct {
	mu       sync.Mutex
	busy     bool
	at       time.Time // when they were made; zero: never
	findings []doctor.Finding
	err      error // of a server that could not be looked at
}

type doctorBody struct {
	Busy     bool
	At       time.Time
	Findings []doctor.Finding
	Summary  doctor.Summary
	Err      string
}

// doctor shows the latest findings, and makes new ones beside if they are old: that takes some seconds. It changes
// nothing.
func (p *Page) doctor(v *view) error {
	c := &p.checks
	c.mu.Lock()
	if !c.busy && time.Since(c.at) > checkedFor {
		c.busy = p.beside(p.examine)
	}
	b := doctorBody{Busy: c.busy, At: c.at, Findings: c.findings, Summary: doctor.Summarize(c.findings)}
	if c.err != nil {
		b.Err = reason(c.err)
	}
	c.mu.Unlock()
	v.Refresh = true
	return v.show("doctor", "doctor", "Doctor", b)
}

func (p *Page) examine() {
	findings, err := p.Examine(p.running)
	// What is wrong comes first.
	order := map[doctor.Verdict]int{doctor.Problem: 0, doctor.Warning: 1, doctor.Unknown: 2, doctor.OK: 3}
	slices.SortStableFunc(findings, func(a, b doctor.Finding) int { return order[a.Verdict] - order[b.Verdict] })
	if errors.Is(err, context.Canceled) {
		err = nil // the service ends
	}
	c := &p.checks
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy, c.at, c.findings, c.err = false, time.Now(), findings, err
}
