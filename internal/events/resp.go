package events

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strconv"
)

// resp reads the few kinds of reply that XRANGE and XREAD give. go-redis decodes each entry into a map, which costs
// eight allocations for each event and loses fields that come twice; resp reads them in place.
type resp struct{ rest []byte }

var errProtocol = errors.New("unexpected reply")

// line takes the line that starts with the marker, and returns what follows the marker.
func (r *resp) line(marker byte) ([]byte, error) {
	end := bytes.Index(r.rest, crlf)
	if end < 1 {
		return nil, fmt.Errorf("%w: cut off", errProtocol)
	}
	line := r.rest[:end]
	r.rest = r.rest[end+len(crlf):]
	if line[0] == '-' {
		return nil, replyError(line[1:])
	}
	if line[0] != marker {
		return nil, fmt.Errorf("%w: %s where %q was due", errProtocol, quote(line), marker)
	}
	return line[1:], nil
}

var crlf = []byte("\r\n")

// replyError is an error that Redis answered with; go-redis takes it for one of its own.
type replyError string

func (e replyError) Error() string { return string(e) }

// RedisError marks the error as one that the server sent.
func (replyError) RedisError() {}

// length takes a line that is the marker and a number.
func (r *resp) length(marker byte) (int, error) {
	const mostDigits = 9 // of what is read here; there is nearly nothing else
	n, end := 0, 1
	if len(r.rest) > 0 && r.rest[0] == marker {
		for ; end < len(r.rest) && end <= mostDigits && '0' <= r.rest[end] && r.rest[end] <= '9'; end++ {
			n = 10*n + int(r.rest[end]-'0')
		}
	}
	if end > 1 && bytes.HasPrefix(r.rest[end:], crlf) {
		r.rest = r.rest[end+len(crlf):]
		return n, nil
	}
	text, err := r.line(marker)
	if err != nil {
		return 0, err
	}
	if n, err = strconv.Atoi(string(text)); err != nil || n < 0 {
		return 0, fmt.Errorf("%w: length %q", errProtocol, text)
	}
	return n, nil
}

func (r *resp) array() (int, error) { return r.length('*') }

func (r *resp) bulk() ([]byte, error) {
	n, err := r.length('$')
	if err != nil {
		return nil, err
	}
	if len(r.rest) < n+len(crlf) {
		return nil, fmt.Errorf("%w: cut off", errProtocol)
	}
	value := r.rest[:n:n]
	r.rest = r.rest[n+len(crlf):]
	return value, nil
}

func (r *resp) pair() (name, value []byte, err error) {
	if name, err = r.bulk(); err == nil {
		value, err = r.bulk()
	}
	return name, value, err
}

// ofOneStream takes what comes before the entries in a reply to XREAD on one stream, and says whether there
// are any.
func (r *resp) ofOneStream() (bool, error) {
	switch {
	case bytes.HasPrefix(r.rest, []byte("*-1\r\n")), bytes.HasPrefix(r.rest, []byte("_\r\n")): // RESP2, RESP3
		return false, nil
	case bytes.HasPrefix(r.rest, []byte("%1\r\n")): // RESP3: name and entries
		r.rest = r.rest[len("%1\r\n"):]
	default: // RESP2: an array of pairs of these
		for _, want := range []int{1, 2} {
			if n, err := r.array(); err != nil || n != want {
				return false, cmp.Or(err, fmt.Errorf("%w: %d parts where %d are due", errProtocol, n, want))
			}
		}
	}
	_, err := r.bulk() // its name
	return err == nil, err
}

// entry takes one entry of a stream: its position, and its fields unread.
func (r *resp) entry() (Position, []byte, error) {
	n, err := r.array()
	if err != nil {
		return Position{}, nil, err
	}
	if n != 2 {
		return Position{}, nil, fmt.Errorf("%w: an entry of %d parts", errProtocol, n)
	}
	id, err := r.bulk()
	if err != nil {
		return Position{}, nil, err
	}
	position, err := parsePosition(id)
	if err != nil {
		return Position{}, nil, err
	}
	fields := r.rest
	parts, err := r.array()
	for i := 0; err == nil && i < parts; i++ {
		_, err = r.bulk()
	}
	if err != nil {
		return Position{}, nil, fmt.Errorf("entry %s: %w", position, err)
	}
	size := len(fields) - len(r.rest)
	return position, fields[:size:size], nil
}
