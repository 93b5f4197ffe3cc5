package events

import (
	"fmt"
	"unicode/utf8"
)

// Batch is an unbroken run of entries of one stream, decoded.
type Batch struct {
	Events   []Event     // what is of a profile, in the order of the stream
	Rejected []Rejection // what is not, in the same order
	Entries  int         // how many entries it holds: events and rejections
	Bytes    int         // size of the replies that it was decoded from
	Last     Position    // of the last entry
}

// decode appends the entries of a reply to XRANGE, in the Redis protocol, and returns
// how many there were. Events point into the reply. It fails, with the batch unchanged
// in what counts (Entries, Last), on an error reply and on anything but an array of
// entries: an error must never be taken for an empty stream.
func (b *Batch) decode(reply []byte, weights Weights) (int, error) {
	r := resp{rest: reply}
	n, err := r.array()
	if err != nil {
		return 0, err
	}
	grown := *b
	for range n {
		position, fields, err := r.entry()
		if err != nil {
			return 0, err
		}
		if !position.After(grown.Last) {
			return 0, fmt.Errorf("entry %s follows entry %s", position, grown.Last)
		}
		event, reason, detail := weights.decodeEntry(fields)
		grown.add(position, event, reason, detail)
	}
	*b = grown
	b.Bytes += len(reply)
	return n, nil
}

// addText appends what an entry with the one field `event` would be.
func (b *Batch) addText(at Position, text []byte, weights Weights) {
	event, reason, detail := weights.Decode(Payload{text, FormEvent})
	b.add(at, event, reason, detail)
	b.Bytes += len(text)
}

// add appends an entry. One with an unknown action goes with the events, since its
// profile is known: whether it counts must be settled along with the profile's mark. Else
// it could be passed by the mark as dead, and be an event when it is read again with
// other weights.
func (b *Batch) add(at Position, event Event, reason Reason, detail string) {
	event.Position = at
	if reason == "" || reason == UnknownAction {
		b.Events = append(b.Events, event)
	} else {
		b.Rejected = append(b.Rejected, Rejection{at, reason, detail, event.Payload})
	}
	b.Entries++
	b.Last = at
}

// Decode reads a payload again, as it is kept with a dead letter.
func (w Weights) Decode(p Payload) (Event, Reason, string) {
	if p.Form == FormEvent {
		event, reason, detail := w.Parse(p.Bytes)
		event.Payload = p
		return event, reason, detail
	}
	return w.decodeEntry(p.Bytes)
}

// decodeEntry makes an event of the fields of an entry, which is either the one field
// `event` or the three fields child_profile_id, book_id and action, in any order.
// The payload of the event returned is set in any case.
func (w Weights) decodeEntry(fields []byte) (Event, Reason, string) {
	r := resp{rest: fields}
	n, err := r.array()
	if err != nil {
		return Event{Payload: Payload{fields, FormEntry}}, MissingField, "unreadable fields"
	}
	if n == 2 {
		if name, value, err := r.pair(); err == nil && string(name) == "event" {
			event, reason, detail := w.Parse(value)
			event.Payload = Payload{value, FormEvent}
			return event, reason, detail
		}
	}
	if n == 6 {
		if profile, book, action, ok := r.threeFields(); ok {
			event, reason, detail := w.fields(profile, book, action)
			event.Payload = Payload{fields, FormEntry}
			return event, reason, detail
		}
	}
	return Event{Payload: Payload{fields, FormEntry}}, MissingField,
		"want the field event, or the fields child_profile_id, book_id and action"
}

func (w Weights) fields(profile, book, action []byte) (Event, Reason, string) {
	if !utf8.Valid(profile) || !utf8.Valid(book) || !utf8.Valid(action) {
		return Event{}, InvalidUTF8, "a field is not valid UTF-8"
	}
	if len(profile) == 0 || len(book) == 0 || len(action) == 0 {
		return Event{}, Malformed, "a field is empty"
	}
	return w.parts(profile, book, action)
}

func (r *resp) threeFields() (profile, book, action []byte, ok bool) {
	for range 3 {
		name, value, err := r.pair()
		if err != nil {
			return nil, nil, nil, false
		}
		switch string(name) {
		case "child_profile_id":
			profile = value
		case "book_id":
			book = value
		case "action":
			action = value
		}
	}
	return profile, book, action, profile != nil && book != nil && action != nil
}
