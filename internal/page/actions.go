package page

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"aggregator/internal/access"
	"aggregator/internal/apply"
	"aggregator/internal/deadletter"
	"aggregator/internal/runs"
	"aggregator/internal/terminal"
)

const (
	// soon is how long a form waits for what it has begun. After that, a page shows how far it is.
	soon = 3 * time.Second
	// remembersActions is how many actions this process can tell the results of; their runs stay.
	remembersActions = 50
)

// actions are what was begun by forms: one at a time in this process. They are safe for concurrent use.
type actions struct {
	mu   sync.Mutex
	all  []*action // the latest last
	busy bool
}

// action is a retry or a drop.
type action struct {
	key    string // of its run
	kind   string
	chosen deadletter.Choice
	ended  chan struct{}

	// These are there when it has ended.
	retried apply.Retried
	dropped int64
	err     error
}

// report is what is known of an action.
type report struct {
	Kind    string
	Running bool
	Failed  bool
	Text    string
	Whys    []why // for operators
	RunID   int64 // 0: it has no record
}

type why struct {
	What  string
	Times int64
}

func (p *Page) retry(v *view) error {
	return p.act(v, "retry", func(ctx context.Context, a *action, by string) {
		a.retried, a.err = p.Retry(ctx, a.chosen, by, a.key)
	})
}

func (p *Page) drop(v *view) error {
	return p.act(v, "drop", func(ctx context.Context, a *action, by string) {
		a.dropped, a.err = p.Drop(ctx, a.chosen, by, a.key)
	})
}

// act begins an action, waits for it for a while, and goes back to the page that it was asked on. It goes on when
// the browser leaves; it ends with Run.
func (p *Page) act(v *view, kind string, do func(context.Context, *action, string)) error {
	user := access.From(v.r.Context())
	if user.Role != access.Operator { // access has made sure; without a name nothing is done
		return &problem{http.StatusForbidden, "This needs the login of an operator.", ""}
	}
	chosen, back, err := chosenBy(v)
	if err != nil {
		return err
	}
	a := &action{key: rand.Text(), kind: kind, chosen: chosen, ended: make(chan struct{})}
	if !p.actions.begin(a) {
		return &problem{
			http.StatusConflict, "Another retry or drop is running in this instance.",
			"Runs shows how far it is. Try again when it has ended.",
		}
	}
	if !p.beside(func() {
		defer p.actions.end(a)
		do(p.running, a, user.Name)
	}) {
		p.actions.end(a)
		return &problem{http.StatusServiceUnavailable, "The service is ending: nothing was done.", ""}
	}
	select {
	case <-a.ended:
	case <-time.After(soon):
	}
	return redirect{back + "&action=" + a.key}
}

// chosenBy reads which dead letters a form means, and where to go on.
func chosenBy(v *view) (chosen deadletter.Choice, back string, err error) {
	form := v.r.PostForm
	if form.Get("position") != "" {
		id, err := letterID(form)
		return deadletter.Choice{One: &id}, link("letter", "source", id.Source, "position", id.Position), err
	}
	filter, err := strictFilter(form)
	if err != nil {
		return chosen, "", err
	}
	if chosen.Filter, err = filter.settleable(); err != nil {
		return chosen, "", err
	}
	// Without it the form is not one of ours: it would be for all.
	chosen.Filter.Until, err = time.Parse(time.RFC3339Nano, form.Get("until"))
	if err != nil || chosen.Filter.Until.IsZero() {
		return chosen, "", badRequest("Which dead letters? Choose them on the page of dead letters.")
	}
	return chosen, filter.To("dead"), nil
}

func (a *actions) begin(one *action) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy {
		return false
	}
	a.busy = true
	a.all = append(a.all, one)
	a.all = slices.Delete(a.all, 0, max(0, len(a.all)-remembersActions))
	return true
}

func (a *actions) end(one *action) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.busy = false
	close(one.ended)
}

func (a *actions) find(key string) *action {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, one := range a.all {
		if one.key == key {
			return one
		}
	}
	return nil
}

// report is about the action that the URL of a view names; nil: there is none that this process knows.
func (p *Page) report(v *view) *report {
	a := p.actions.find(v.r.Form.Get("action"))
	if a == nil {
		return nil
	}
	r := &report{Kind: a.kind}
	run, err := runs.FindKey(v.r.Context(), p.Pool, a.key)
	if err == nil {
		r.RunID = run.ID
	}
	select {
	case <-a.ended:
		a.tell(r, v.Operator())
	default:
		r.Running = true
		r.Text = fmt.Sprintf("The %s is running: %s so far.", a.kind, terminal.Count(run.Read, "dead letter"))
	}
	return r
}

func (a *action) tell(r *report, all bool) {
	r.Failed = a.err != nil
	broken := a.err != nil && !errors.Is(a.err, deadletter.ErrStillDead) && !errors.Is(a.err, deadletter.ErrSettled)
	switch {
	case errors.Is(a.err, deadletter.ErrSettled):
		r.Text = "It was settled before: nothing has changed."
	case a.chosen.One != nil && errors.Is(a.err, deadletter.ErrStillDead):
		r.Text = "It still cannot be applied."
	case broken && a.dropped == 0 && a.retried.Tried() == 0:
		r.Text = fmt.Sprintf("The %s failed.", a.kind)
	case broken:
		r.Text = fmt.Sprintf("The %s failed before it was done. %s", a.kind, a.done())
	default:
		r.Text = a.done()
	}
	if !all {
		return
	}
	if broken {
		r.Whys = []why{{a.err.Error(), 1}}
	}
	for _, what := range slices.SortedFunc(maps.Keys(a.retried.Failed), func(x, y string) int {
		return cmp.Or(cmp.Compare(a.retried.Failed[y], a.retried.Failed[x]), cmp.Compare(x, y))
	}) {
		r.Whys = append(r.Whys, why{what, a.retried.Failed[what]})
	}
	const most = 10
	r.Whys = r.Whys[:min(len(r.Whys), most)]
}

// done is what it has done.
func (a *action) done() string {
	if a.kind == "drop" {
		return "Dropped " + terminal.Count(a.dropped, "dead letter") + "."
	}
	return fmt.Sprintf("Applied %s of %s; %s settled before, %s still dead.",
		terminal.Grouped(int64(a.retried.Applied)), terminal.Count(a.retried.Tried(), "dead letter"),
		terminal.Grouped(int64(a.retried.Before)), terminal.Grouped(a.retried.StillDead()))
}
