package events

import "context"

// Oldest is the position of the first entry of the stream after another position; the zero Position if there
// is none. What waits in a list has no date and does not count. It reads only.
func (s *Source) Oldest(ctx context.Context, after Position) (Position, error) {
	batch := Batch{Last: after}
	n, err := s.readStream(ctx, &batch, 1, 0)
	if n == 0 || err != nil {
		return Position{}, err
	}
	return batch.Last, nil
}
