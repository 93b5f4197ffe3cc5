// Package workload makes the events that the load generator pushes.
//
// An event is a pure function of the settings and its index. That is what makes a push
// verifiable: what the database must hold is computed from the settings alone, whatever
// number of clients pushed the events and in whatever order they arrived. It knows the
// wire formats on its own and shares no code with the aggregator.
package workload

import "strconv"

// Why the aggregator must refuse an event.
const (
	Malformed      = "malformed"
	UnknownAction  = "unknown_action"
	OutOfRange     = "out_of_range"
	MissingField   = "missing_field"
	InvalidUTF8    = "invalid_utf8"
	UnknownProfile = "unknown_profile"
	UnknownBook    = "unknown_book"
)

// The forms in which the payload of a dead letter is kept.
const (
	FormEvent = "event"
	FormEntry = "entry"
)

// Event is one like or dislike, or a piece of junk.
type Event struct {
	Profile, Book int64 // of a well-formed event
	Like          bool

	// Junk is the reason for which the event must become a dead letter, whatever the
	// catalogue holds; empty for a well-formed event.
	Junk string

	// Partition is the number of the key that the event is pushed to.
	Partition int

	asFields bool
	junk     []string // names and values of a piece of junk
}

// Source is a run of events, numbered from 0.
type Source interface {
	Len() int64
	At(index int64) Event
}

// Text is the event in one piece, as lists and the field "event" hold it.
func (e Event) Text() string {
	if e.junk != nil {
		return e.junk[1]
	}
	b := make([]byte, 0, 32)
	b = strconv.AppendInt(b, e.Profile, 10)
	b = append(b, ':')
	b = strconv.AppendInt(b, e.Book, 10)
	b = append(b, ':')
	return string(append(b, e.action()...))
}

func (e Event) action() string {
	if e.Like {
		return "LIKE"
	}
	return "DISLIKE"
}

// Fields are the names and values of the stream entry, in turn.
func (e Event) Fields() []string {
	switch {
	case e.junk != nil:
		return e.junk
	case e.asFields:
		return []string{
			"child_profile_id", strconv.FormatInt(e.Profile, 10),
			"book_id", strconv.FormatInt(e.Book, 10),
			"action", e.action(),
		}
	}
	return []string{"event", e.Text()}
}

// Payload is what a dead letter of the event must keep, and its form.
func (e Event) Payload() (form string, payload []byte) {
	f := e.Fields()
	if len(f) == 2 && f[0] == "event" {
		return FormEvent, []byte(f[1])
	}
	b := append([]byte("*"), strconv.Itoa(len(f))...)
	b = append(b, "\r\n"...)
	for _, s := range f {
		b = append(b, '$')
		b = strconv.AppendInt(b, int64(len(s)), 10)
		b = append(b, "\r\n"...)
		b = append(b, s...)
		b = append(b, "\r\n"...)
	}
	return FormEntry, b
}
