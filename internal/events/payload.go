package events

import (
	"bytes"
	"strconv"
)

// Payload is what an event was made of, byte for byte. The bytes must not be changed.
type Payload struct {
	Bytes []byte
	Form  Form
}

// Form says what the bytes of a payload are.
type Form string

const (
	FormEvent Form = "event" // the text of an event, the value of the one field `event`
	FormEntry Form = "entry" // all fields of an entry, as an array of the Redis protocol
)

// Nearly every payload is as usual: ids without leading zeros, and fields in the order of the documentation.
// Then events refer to one of these two, and keep nothing.
var (
	usualText  = &Payload{Form: FormEvent}
	usualEntry = &Payload{Form: FormEntry}
)

// Payload is what the event was made of.
func (e Event) Payload() Payload {
	switch e.kept {
	case usualText:
		return Payload{e.appendText(nil), FormEvent}
	case usualEntry:
		return Payload{e.appendEntry(nil), FormEntry}
	case nil: // of no source
		return Payload{}
	default:
		return *e.kept
	}
}

// usual returns what to refer to for the payload that this event, which has an action, was made of: one of
// the two usual payloads if that is how it was written, or else nil. It writes to the buffer and returns it.
func (e Event) usual(p Payload, buffer []byte) (*Payload, []byte) {
	if p.Form == FormEvent {
		// Only leading zeros can make a difference, and they make it longer.
		if len(p.Bytes) == digits(e.ProfileID)+digits(e.BookID)+len("::")+len(e.Action.Name) {
			return usualText, buffer
		}
		return nil, buffer
	}
	if buffer = e.appendEntry(buffer[:0]); bytes.Equal(buffer, p.Bytes) {
		return usualEntry, buffer
	}
	return nil, buffer
}

// digits is how many digits a number has that is not negative.
func digits(n int64) int {
	count := 1
	for ; n >= 10; n /= 10 {
		count++
	}
	return count
}

func (e Event) appendText(b []byte) []byte {
	b = strconv.AppendInt(b, e.ProfileID, 10)
	b = append(b, ':')
	b = strconv.AppendInt(b, e.BookID, 10)
	b = append(b, ':')
	return append(b, e.Action.Name...)
}

func (e Event) appendEntry(b []byte) []byte {
	var number [20]byte
	b = append(b, "*6\r\n$16\r\nchild_profile_id\r\n"...)
	b = appendBulk(b, strconv.AppendInt(number[:0], e.ProfileID, 10))
	b = append(b, "$7\r\nbook_id\r\n"...)
	b = appendBulk(b, strconv.AppendInt(number[:0], e.BookID, 10))
	b = append(b, "$6\r\naction\r\n"...)
	return appendBulk(b, []byte(e.Action.Name))
}

func appendBulk(b, value []byte) []byte {
	b = append(b, '$')
	b = strconv.AppendInt(b, int64(len(value)), 10)
	b = append(b, crlf...)
	b = append(b, value...)
	return append(b, crlf...)
}
