package events

import (
	"bytes"
	"fmt"
	"math"
	"unicode/utf8"
)

// Event says what a child thought of a book. A chunk holds a million of them. So their payloads are not kept:
// where that is possible, Payload writes them again from their parts.
type Event struct {
	Position  Position
	ProfileID int64
	BookID    int64
	Action    *Action  // nil if it is unknown: the event cannot be applied
	kept      *Payload // see Payload
}

// Action is what a child can do with a book.
type Action struct {
	Name   string
	Weight float64 // what it adds to the scores
}

// Rejection is an entry that is not an event.
type Rejection struct {
	Position Position
	Reason   Reason
	Detail   string // what is wrong, for a person; printable
	Payload  Payload
}

// Reason says why an entry became a dead letter.
type Reason string

const (
	Malformed      Reason = "malformed"       // not <profile>:<book>:<ACTION>
	UnknownAction  Reason = "unknown_action"  // an action that has no weight
	OutOfRange     Reason = "out_of_range"    // a number that is negative or beyond 2^63-1
	MissingField   Reason = "missing_field"   // neither the one field nor exactly the three
	InvalidUTF8    Reason = "invalid_utf8"    //
	UnknownProfile Reason = "unknown_profile" // no such child profile
	UnknownBook    Reason = "unknown_book"    // no such book
	DataError      Reason = "data_error"      // PostgreSQL refused the value
)

// Reasons are all that there are.
var Reasons = []Reason{
	Malformed, UnknownAction, OutOfRange, MissingField, InvalidUTF8, UnknownProfile, UnknownBook,
	DataError,
}

// Decoder makes events of what Redis holds. The zero Decoder knows no actions.
type Decoder struct{ actions map[string]*Action }

// NewDecoder returns a Decoder for the actions with their weights; all others are unknown.
func NewDecoder(weights map[string]float64) Decoder {
	d := Decoder{actions: make(map[string]*Action, len(weights))}
	for name, weight := range weights {
		d.actions[name] = &Action{Name: name, Weight: weight}
	}
	return d
}

// Parse reads the text form of an event, <childProfileId>:<bookId>:<ACTION>. What it cannot read it rejects
// with a reason and a detail for a person; the reason is empty when the event is good. If the reason is
// UnknownAction, the ids are set all the same. The caller fills in position and payload.
func (d Decoder) Parse(text []byte) (Event, Reason, string) {
	if !utf8.Valid(text) {
		return Event{}, InvalidUTF8, "the event is not valid UTF-8" + hint(text)
	}
	profile, rest, _ := bytes.Cut(text, colon)
	book, action, found := bytes.Cut(rest, colon)
	if !found || len(profile) == 0 || len(book) == 0 || len(action) == 0 || bytes.Contains(action, colon) {
		return Event{}, Malformed, "want <childProfileId>:<bookId>:<ACTION>, got " + quote(text) + hint(text)
	}
	event, reason, detail := d.parts(profile, book, action)
	if reason == Malformed {
		detail += hint(text)
	}
	return event, reason, detail
}

var colon = []byte(":")

func (d Decoder) parts(profile, book, action []byte) (Event, Reason, string) {
	profileID, reason := parseID(profile)
	if reason != "" {
		return Event{}, reason, "child_profile_id is " + quote(profile)
	}
	bookID, reason := parseID(book)
	if reason != "" {
		return Event{}, reason, "book_id is " + quote(book)
	}
	known := d.actions[string(action)]
	if known == nil {
		return Event{ProfileID: profileID, BookID: bookID}, UnknownAction, "action is " + quote(action) +
			hintAction(action)
	}
	return Event{ProfileID: profileID, BookID: bookID, Action: known}, "", ""
}

// parseID is strconv.ParseUint for bytes: digits alone, at most 2^63-1.
func parseID(digits []byte) (int64, Reason) {
	negative := len(digits) > 1 && digits[0] == '-'
	if negative {
		digits = digits[1:]
	}
	var id int64
	overflow := false
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, Malformed
		}
		d := int64(c - '0')
		overflow = overflow || id > (math.MaxInt64-d)/10
		id = id*10 + d
	}
	switch {
	case len(digits) == 0:
		return 0, Malformed
	case overflow || negative:
		return 0, OutOfRange
	}
	return id, ""
}

// quote makes bytes printable, and short: the payload has them all.
func quote(b []byte) string {
	const most = 80
	if len(b) > most {
		return fmt.Sprintf("%q and %d bytes more", b[:most], len(b)-most)
	}
	return fmt.Sprintf("%q", b)
}

// Coalesce keeps the last event of each book, at its place, for the rule that a child's
// last word on a book counts. The events must be of one profile, in order; the slice is
// reused.
func Coalesce(profile []Event) []Event {
	last := make(map[int64]int, len(profile))
	for i, e := range profile {
		last[e.BookID] = i
	}
	kept := profile[:0]
	for i, e := range profile {
		if last[e.BookID] == i {
			kept = append(kept, e)
		}
	}
	return kept
}
