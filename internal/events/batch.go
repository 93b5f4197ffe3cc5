package events

import (
	"bytes"
	"fmt"
	"time"
	"unicode/utf8"
	"unsafe"
)

// Batch is an unbroken run of entries of one stream, decoded.
type Batch struct {
	Events   []Event     // entries that belong to a profile, in the order of the stream
	Rejected []Rejection // the others, in the same order
	Entries  int         // how many entries it holds: events and rejections
	Replies  int         // bytes of the replies that it was decoded from
	Held     int         // bytes that it holds in memory, about
	Last     Position    // of the last entry

	Took time.Duration // to read it; for the reader to count

	scratch []byte
}

// decode appends the entries of a reply to XRANGE, in the Redis protocol, and returns
// how many there were. It fails, with the batch unchanged in what counts (Entries, Last),
// on an error reply and on anything but an array of entries: an error must never be
// taken for an empty stream.
func (b *Batch) decode(reply []byte, decoder Decoder) (int, error) {
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
		grown.add(position, decoder.entry(fields), len(reply))
	}
	*b = grown
	b.Replies += len(reply)
	return n, nil
}

// decodeWaited is decode for a reply to XREAD on one stream, which may be that there is nothing.
func (b *Batch) decodeWaited(reply []byte, decoder Decoder) (int, error) {
	r := resp{rest: reply}
	some, err := r.ofOneStream()
	if err != nil || !some {
		return 0, err
	}
	return b.decode(r.rest, decoder)
}

// addText appends what an entry with the one field `event` would be.
func (b *Batch) addText(at Position, text []byte, decoder Decoder) {
	b.add(at, decoder.payload(Payload{text, FormEvent}), len(text))
	b.Replies += len(text)
}

// add appends an entry; page is the size of the reply that it is part of. An entry with an unknown action
// goes with the events, since its profile is known: whether it counts must be decided along with the
// profile's mark. Otherwise the mark could pass it as dead, and it could be an event when it is read again
// with other weights.
func (b *Batch) add(at Position, e decoded, page int) {
	e.event.Position = at
	switch e.reason {
	case "":
		if e.event.kept, b.scratch = e.event.usual(e.payload, b.scratch); e.event.kept == nil {
			kept := b.keep(e.payload, page)
			e.event.kept = &kept
		}
		b.Events = append(b.Events, e.event)
	case UnknownAction:
		kept := b.keep(e.payload, page)
		e.event.kept = &kept
		b.Events = append(b.Events, e.event)
	default:
		b.Rejected = append(b.Rejected, Rejection{at, e.reason, e.detail, b.keep(e.payload, page)})
		b.Held += rejectionSize + len(e.detail)
	}
	b.Held += eventSize
	b.Entries++
	b.Last = at
}

const (
	eventSize     = int(unsafe.Sizeof(Event{}))
	payloadSize   = int(unsafe.Sizeof(Payload{}))
	rejectionSize = int(unsafe.Sizeof(Rejection{}))
)

// keep copies a payload unless it is most of its page: a part would keep the whole page in memory.
func (b *Batch) keep(p Payload, page int) Payload {
	b.Held += payloadSize + len(p.Bytes)
	if 4*len(p.Bytes) < page {
		p.Bytes = bytes.Clone(p.Bytes)
	}
	return p
}

// decoded is what a payload was found to be: an event, and why if it is not a good one.
type decoded struct {
	event   Event
	payload Payload
	reason  Reason
	detail  string
}

// Decode reads a payload again, as it is kept with a dead letter. The reason is empty if
// it is a good event.
func (d Decoder) Decode(p Payload) (Event, Reason, string) {
	e := d.payload(p)
	e.event.kept = &p
	return e.event, e.reason, e.detail
}

func (d Decoder) payload(p Payload) decoded {
	if p.Form == FormEvent {
		event, reason, detail := d.Parse(p.Bytes)
		return decoded{event, p, reason, detail}
	}
	return d.entry(p.Bytes)
}

// entry makes an event of the fields of an entry, which is either the one field `event`
// or the three fields child_profile_id, book_id and action, in any order.
func (d Decoder) entry(fields []byte) decoded {
	r := resp{rest: fields}
	n, err := r.array()
	if err != nil {
		return decoded{payload: Payload{fields, FormEntry}, reason: MissingField, detail: "unreadable fields"}
	}
	if n == 2 {
		if name, value, err := r.pair(); err == nil && string(name) == "event" {
			return d.payload(Payload{value, FormEvent})
		}
	}
	if n == 6 {
		if profile, book, action, ok := r.threeFields(); ok {
			event, reason, detail := d.fields(profile, book, action)
			return decoded{event, Payload{fields, FormEntry}, reason, detail}
		}
	}
	return decoded{
		payload: Payload{fields, FormEntry}, reason: MissingField,
		detail: "want the field event, or the fields child_profile_id, book_id and action",
	}
}

func (d Decoder) fields(profile, book, action []byte) (Event, Reason, string) {
	if !utf8.Valid(profile) || !utf8.Valid(book) || !utf8.Valid(action) {
		return Event{}, InvalidUTF8, "a field is not valid UTF-8"
	}
	if len(profile) == 0 || len(book) == 0 || len(action) == 0 {
		return Event{}, Malformed, "a field is empty"
	}
	event, reason, detail := d.parts(profile, book, action)
	if reason == Malformed {
		detail += hintIDs(profile, book)
	}
	return event, reason, detail
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
