package page

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"aggregator/internal/deadletter"
	"aggregator/internal/events"
	"aggregator/internal/terminal"
)

const (
	lettersShown = 100
	// counting is how long counting may take: a filter may choose millions.
	counting = 2 * time.Second
)

// filterForm is the filter as a form has it.
type filterForm struct {
	Reasons      []string
	Source       string
	Profile      string
	Older, Newer string
	Settled      bool
}

// strictFilter is readFilter for what changes something. A parameter that it does not know is an error: to ignore a
// condition would choose more.
func strictFilter(values url.Values) (filterForm, error) {
	for name := range values {
		if !slices.Contains([]string{"do", "reason", "source", "profile", "older", "newer", "settled", "until"}, name) {
			return filterForm{}, badRequest("There is no condition %q for dead letters.", name)
		}
	}
	return readFilter(values), nil
}

func readFilter(values url.Values) filterForm {
	return filterForm{
		Reasons: values["reason"], Source: values.Get("source"), Profile: strings.TrimSpace(values.Get("profile")),
		Older: values.Get("older"), Newer: values.Get("newer"), Settled: values.Get("settled") != "",
	}
}

// values are those of the form again, without what is empty.
func (f filterForm) values() url.Values {
	values := url.Values{}
	for _, r := range f.Reasons {
		values.Add("reason", r)
	}
	for name, text := range map[string]string{
		"source": f.Source, "profile": f.Profile, "older": f.Older, "newer": f.Newer,
	} {
		if text != "" {
			values.Set(name, text)
		}
	}
	if f.Settled {
		values.Set("settled", "yes")
	}
	return values
}

// To is a page with the filter, and with further parameters.
func (f filterForm) To(page string, pairs ...string) string {
	values := f.values()
	for i := 0; i+1 < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	return "./" + page + "?" + values.Encode()
}

// Hidden are the fields of a form that passes the filter on.
func (f filterForm) Hidden() (fields []field) {
	values := f.values()
	for _, name := range []string{"reason", "source", "profile", "older", "newer", "settled"} {
		for _, text := range values[name] {
			fields = append(fields, field{name, text})
		}
	}
	return fields
}

type field struct{ Name, Value string }

// Has says whether a reason is among those of the filter.
func (f filterForm) Has(reason events.Reason) bool { return slices.Contains(f.Reasons, string(reason)) }

// Any says whether the filter leaves something out.
func (f filterForm) Any() bool {
	return len(f.Reasons) > 0 || f.Source != "" || f.Profile != "" || f.Older != "" || f.Newer != ""
}

// filter reads what was entered.
func (f filterForm) filter() (deadletter.Filter, error) {
	filter := deadletter.Filter{Settled: f.Settled, Newest: true}
	for _, name := range f.Reasons {
		if !slices.Contains(events.Reasons, events.Reason(name)) {
			return filter, badRequest("There is no reason %q for a dead letter.", name)
		}
		filter.Reasons = append(filter.Reasons, events.Reason(name))
	}
	if f.Source != "" {
		filter.Sources = []string{f.Source}
	}
	if f.Profile != "" {
		id, err := profileID(f.Profile)
		if err != nil {
			return filter, err
		}
		filter.ProfileID = &id
	}
	for text, into := range map[*string]*time.Duration{&f.Older: &filter.OlderThan, &f.Newer: &filter.NewerThan} {
		if *text == "" {
			continue
		}
		d, err := time.ParseDuration(*text)
		if err != nil || d <= 0 {
			return filter, badRequest("%q is not a time span: want one such as 1h30m.", *text)
		}
		*into = d
	}
	if filter.OlderThan > 0 && filter.NewerThan > 0 && filter.OlderThan >= filter.NewerThan {
		return filter, badRequest("Nothing is older than %s and newer than %s.", filter.OlderThan, filter.NewerThan)
	}
	return filter, nil
}

// settleable is the filter for those that can be retried or dropped.
func (f filterForm) settleable() (deadletter.Filter, error) {
	filter, err := f.filter()
	filter.Settled, filter.Newest = false, false
	return filter, err
}

type deadBody struct {
	Form    filterForm
	Reasons []events.Reason
	Sources []string
	Letters []deadletter.Letter
	Total   string // how many match
	Some    bool   // at least one matches that is not settled
	Next    string // the page of older ones; empty: there are none
	Later   bool   // this is not the first page
}

func (p *Page) dead(v *view) error {
	form := readFilter(v.r.Form)
	filter, err := form.filter()
	if err != nil {
		return err
	}
	var after *deadletter.ID
	if v.r.Form.Get("after") != "" {
		at, err := position(v.r.Form.Get("after"))
		if err != nil {
			return err
		}
		after = &deadletter.ID{Source: v.r.Form.Get("after_source"), Position: at}
	}
	letters, more, err := deadletter.Page(v.r.Context(), p.Pool, filter, after, lettersShown)
	if errors.Is(err, deadletter.ErrNone) {
		return redirect{form.To("dead")} // that one was removed: begin at the first one
	}
	if err != nil {
		return err
	}
	b := deadBody{
		Form: form, Reasons: events.Reasons, Sources: events.Names(p.Sources), Letters: letters, Later: after != nil,
	}
	if form.Source != "" && !slices.Contains(b.Sources, form.Source) {
		b.Sources = append(b.Sources, form.Source)
	}
	n, counted, err := p.count(v.r.Context(), filter)
	if err != nil {
		return err
	}
	b.Total = matches(n, counted)
	b.Some = slices.ContainsFunc(letters, func(l deadletter.Letter) bool { return l.Settled == nil })
	if more {
		last := letters[len(letters)-1]
		b.Next = form.To("dead", "after", last.Position.String(), "after_source", last.Source)
	}
	v.Action = p.report(v)
	v.Refresh = after == nil
	return v.show("dead", "dead", "Dead letters", b)
}

// count counts, unless that takes too long.
func (p *Page) count(ctx context.Context, filter deadletter.Filter) (n int64, counted bool, err error) {
	brief, cancel := context.WithTimeout(ctx, counting)
	defer cancel()
	n, err = deadletter.Count(brief, p.Pool, filter)
	if brief.Err() != nil && ctx.Err() == nil {
		return 0, false, nil
	}
	return n, err == nil, err
}

func matches(n int64, counted bool) string {
	if !counted {
		return "more dead letters than can be counted quickly"
	}
	return terminal.Count(n, "dead letter")
}

type letterBody struct {
	deadletter.Letter
	Ours    bool // the settings name its source
	Pushed  time.Time
	Payload string // for operators
	Size    int
	Cut     bool // the payload is longer
	Binary  bool // it is no text, and shown as Go writes it
}

// letterID reads which dead letter is meant.
func letterID(values url.Values) (deadletter.ID, error) {
	at, err := position(values.Get("position"))
	return deadletter.ID{Source: values.Get("source"), Position: at}, err
}

func (p *Page) letter(v *view) error {
	id, err := letterID(v.r.Form)
	if err != nil {
		return err
	}
	l, err := deadletter.Find(v.r.Context(), p.Pool, id)
	if errors.Is(err, deadletter.ErrNone) {
		return &problem{
			http.StatusNotFound, fmt.Sprintf("There is no dead letter of source %s at %s.", id.Source, id.Position),
			"It may have been removed since it was settled (dead.keep).",
		}
	}
	if err != nil {
		return err
	}
	b := letterBody{
		Letter: l, Ours: slices.Contains(events.Names(p.Sources), l.Source), Pushed: l.Position.Time(),
		Size: len(l.Payload.Bytes),
	}
	if v.Operator() {
		const most = 8192
		text := l.Payload.Bytes
		b.Cut = len(text) > most
		text = text[:min(len(text), most)]
		if b.Cut { // not in the middle of a character
			text = text[:len(text)-partial(text)]
		}
		b.Payload = string(text)
		if !utf8.Valid(text) || strings.ContainsFunc(b.Payload, unprintable) {
			b.Payload, b.Binary = strconv.Quote(b.Payload), true
		}
	}
	v.Action = p.report(v)
	v.Refresh = v.Action != nil && v.Action.Running
	return v.show("letter", "dead", "Dead letter "+l.Position.String(), b)
}

// partial is how many bytes at the end are the beginning of a character.
func partial(text []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		if last := text[len(text)-n:]; utf8.RuneStart(last[0]) {
			if utf8.FullRune(last) {
				return 0
			}
			return n
		}
	}
	return 0
}

func unprintable(r rune) bool { return r != '\n' && r != '\t' && !strconv.IsPrint(r) }

type confirmBody struct {
	Do     string // retry or drop
	One    *deadletter.ID
	Form   filterForm
	Count  string
	None   bool
	Fields []field
	Back   string
}

// confirm says what an action would do. It is for operators: others are asked for a login.
func (p *Page) confirm(v *view) error {
	b := confirmBody{Do: v.r.Form.Get("do")}
	if b.Do != "retry" && b.Do != "drop" {
		return badRequest("Want to retry or to drop.")
	}
	if v.r.Form.Get("position") != "" {
		id, err := letterID(v.r.Form)
		if err != nil {
			return err
		}
		b.One, b.Count = &id, "the dead letter "+id.String()
		b.Fields = []field{{"source", id.Source}, {"position", id.Position.String()}}
		b.Back = link("letter", "source", id.Source, "position", id.Position)
		return v.show("confirm", "dead", "Confirm", b)
	}
	var err error
	if b.Form, err = strictFilter(v.r.Form); err != nil {
		return err
	}
	filter, err := b.Form.settleable()
	if err != nil {
		return err
	}
	// What is written from now on was not seen, and is left out.
	var now time.Time
	if err := p.Pool.QueryRow(v.r.Context(), `SELECT now()`).Scan(&now); err != nil {
		return err
	}
	filter.Until = now.Add(-filter.OlderThan) // what becomes old enough while a person reads neither
	n, counted, err := p.count(v.r.Context(), filter)
	if err != nil {
		return err
	}
	b.Count, b.None = matches(n, counted), counted && n == 0
	b.Fields = append(b.Form.Hidden(), field{"until", filter.Until.UTC().Format(time.RFC3339Nano)})
	b.Back = b.Form.To("dead")
	return v.show("confirm", "dead", "Confirm", b)
}
