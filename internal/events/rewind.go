package events

import (
	"context"
	"math"
)

// MaxSeq is the last sequence number that a position may have.
const MaxSeq = math.MaxInt64

// Entry is an entry of a stream as it is kept.
type Entry struct {
	Position Position
	Payload  Payload
}

// Rewind puts the bookmark back to before the first entry, and returns the state of the stream at that
// moment. An attempt that has inspected the stream before does not trim any more (see Trim). An attempt that
// inspects it afterwards moves the bookmark forward again by its next Trim. Safe to repeat, also after an
// error: attempts that were fenced off begin again, and nothing else has happened.
func (s *Source) Rewind(ctx context.Context) (State, error) {
	// The bookmark alone would not do. An attempt that had seen none could not tell, nor one whose bookmark
	// another attempt has moved to the same position again since.
	if err := fenceScript.Run(ctx, s.client, []string{s.stream}, fenceGroup).Err(); err != nil {
		return State{}, s.failed("fencing", err)
	}
	reply, err := rewindScript.Run(ctx, s.client, []string{s.stream}, Group).StringSlice()
	if err != nil {
		return State{}, s.failed("rewinding", err)
	}
	var p replyParser
	state := State{Added: p.number(reply, 0), Length: p.number(reply, 1), Last: p.position(reply, 2)}
	return state, s.failed("rewinding", p.err)
}

// Held counts the entries of the stream up to a position, and all entries, with what is in the list that
// feeds it. It reads only.
func (s *Source) Held(ctx context.Context, to Position) (upTo, all int64, err error) {
	if upTo, err = s.countEntries(ctx, Position{}, to); err != nil {
		return 0, 0, err
	}
	state, err := s.Inspect(ctx)
	if err != nil {
		return 0, 0, err
	}
	listed, err := s.listed(ctx)
	return upTo, state.Length + listed, err
}

// Entries shows the entries after one position up to and including another one, a page at a time, until show
// fails, whose error it returns. It reads only.
func (s *Source) Entries(ctx context.Context, after, to Position, show func([]Entry) error) error {
	var page []Entry
	bytes := 0
	flush := func() error {
		defer func() { page, bytes = nil, 0 }()
		if len(page) == 0 {
			return nil
		}
		return show(page)
	}
	err := s.scan(ctx, after, to, func(at Position, fields []byte) error {
		page = append(page, Entry{at, s.decoder.entry(fields).payload})
		if bytes += len(fields); len(page) < scanEntries && bytes < scanBytes {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}
