package events

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Census counts the entries of a stream, as seen from a position.
type Census struct {
	Added int64 // ever
	Left  int64 // after the position, and there now
}

// Census counts what is left after a position. entries is how many the stream had been given up to the
// position, if all is in order. It is only used to choose the shorter way to count, because Redis has no
// command that does. We must trim nothing after the position meanwhile; what is at or before it we may trim,
// and producers may add.
//
// It reads only, a page at a time, and takes about a second for a million entries.
func (s *Source) Census(ctx context.Context, after Position, entries int64) (Census, error) {
	for try := 1; ; try++ {
		before, err := s.Inspect(ctx)
		if err != nil {
			return Census{}, err
		}
		// Counting the entries after the position is right whatever is trimmed before it. Counting those up
		// to it is right only if nothing was trimmed.
		if waiting := before.Added - entries; 2*waiting <= before.Length || try > 3 {
			left, err := s.countEntries(ctx, after, before.Last)
			return Census{before.Added, left}, err
		}
		passed, err := s.countEntries(ctx, Position{}, after)
		if err != nil {
			return Census{}, err
		}
		now, err := s.Inspect(ctx)
		if err != nil {
			return Census{}, err
		}
		if now.removed() == before.removed() {
			return Census{before.Added, before.Length - passed}, nil
		}
	}
}

func (s State) removed() int64 { return s.Added - s.Length }

func (s *Source) countEntries(ctx context.Context, after, to Position) (n int64, err error) {
	err = s.scan(ctx, after, to, func(Position, []byte) error { n++; return nil })
	return n, err
}

// CountMarked counts the events after a position that the marks of their profiles have passed, as far as the
// entries are there. Entries that are no events have no mark. It reads only.
func (s *Source) CountMarked(ctx context.Context, after Position, marks map[int64]Position) (n int64, err error) {
	to := after
	for _, mark := range marks {
		if mark.After(to) {
			to = mark
		}
	}
	err = s.scan(ctx, after, to, func(at Position, fields []byte) error {
		entry := s.decoder.entry(fields)
		ofProfile := entry.reason == "" || entry.reason == UnknownAction
		if mark, found := marks[entry.event.ProfileID]; ofProfile && found && !at.After(mark) {
			n++
		}
		return nil
	})
	return n, err
}

// Limits of one page of a scan: Redis does nothing else while it writes a page, and the
// page is held in memory.
const (
	scanEntries = 1000
	scanBytes   = 4 << 20
)

// scan shows the entries after one position, up to and including another one, until show fails.
func (s *Source) scan(ctx context.Context, after, to Position, show func(at Position, fields []byte) error) error {
	limit := 100 // the first page shows how large the entries are
	for to.After(after) {
		cmd := redis.NewRawCmd(ctx, "XRANGE", s.stream, "("+after.String(), to.String(), "COUNT", limit)
		if err := s.client.Process(ctx, cmd); err != nil {
			return s.failed("reading", err)
		}
		r := resp{rest: cmd.Val()}
		size := len(r.rest)
		n, err := r.array()
		for i := 0; err == nil && i < n; i++ {
			var at Position
			var fields []byte
			if at, fields, err = r.entry(); err != nil {
				break
			}
			if !at.After(after) {
				err = fmt.Errorf("entry %s follows entry %s", at, after)
				break
			}
			after = at
			if err := show(at, fields); err != nil {
				return err
			}
		}
		if err != nil {
			return s.failed("reading", err)
		}
		if n < limit {
			return nil
		}
		limit = min(scanEntries, max(1, scanBytes/(size/n+1)))
	}
	return nil
}
