package events

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Position is the id of an entry in a Redis stream: milliseconds since 1970 and a
// sequence number within the millisecond. The zero Position is before every entry.
//
// Redis' ids are two unsigned 64-bit numbers; PostgreSQL has no such type, so that ids
// with a half beyond 2^63-1, which no clock gives, are refused (ErrPosition).
type Position struct{ Ms, Seq int64 }

// ErrPosition is wrapped by the errors of ParsePosition.
var ErrPosition = fmt.Errorf("not a stream position")

// ParsePosition reads "<ms>-<seq>", as Redis prints ids. The error wraps ErrPosition.
func ParsePosition(text string) (Position, error) { return parsePosition([]byte(text)) }

func parsePosition(id []byte) (Position, error) {
	ms, seq, _ := bytes.Cut(id, dash)
	m, noMs := parseID(ms)
	s, noSeq := parseID(seq)
	if noMs != "" || noSeq != "" {
		return Position{}, fmt.Errorf("%w: %q", ErrPosition, string(id))
	}
	return Position{Ms: m, Seq: s}, nil
}

var dash = []byte("-")

// String is the id as Redis prints it.
func (p Position) String() string {
	return strconv.FormatInt(p.Ms, 10) + "-" + strconv.FormatInt(p.Seq, 10)
}

// Compare is negative, zero or positive as p is before, at or after q.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Ms, q.Ms), cmp.Compare(p.Seq, q.Seq))
}

// After says whether p comes after q in the stream: it is younger.
func (p Position) After(q Position) bool { return p.Compare(q) > 0 }

// IsZero says whether p is before every entry.
func (p Position) IsZero() bool { return p == Position{} }

// Time is when Redis gave the id, if it was Redis that did (XADD with *).
func (p Position) Time() time.Time { return time.UnixMilli(p.Ms).UTC() }

// next is the smallest position after p.
func (p Position) next() Position {
	if p.Seq == math.MaxInt64 {
		return Position{Ms: p.Ms + 1}
	}
	return Position{Ms: p.Ms, Seq: p.Seq + 1}
}

// previous is the greatest position before p; the zero Position has none but itself.
func (p Position) previous() Position {
	switch {
	case p.Seq > 0:
		return Position{Ms: p.Ms, Seq: p.Seq - 1}
	case p.Ms > 0:
		return Position{Ms: p.Ms - 1, Seq: math.MaxInt64}
	default:
		return p
	}
}
