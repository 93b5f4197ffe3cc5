package events

import "context"

// Peeker reads what Read would, without moving anything from the list to the stream. Elements of the list get
// positions that are not used anywhere else.
type Peeker struct {
	source *Source
	listed int64 // elements of the list that were read
}

// Peek begins at the oldest element of the list, once the stream is read.
func (s *Source) Peek() *Peeker { return &Peeker{source: s} }

// Read is Source.Read.
func (p *Peeker) Read(ctx context.Context, batch *Batch, limit int) (int, error) {
	n, err := p.source.readStream(ctx, batch, limit, 0)
	if n > 0 || err != nil || p.source.inlet == nil {
		return n, err
	}
	elements, err := p.source.inlet.peek(ctx, p.listed, int64(limit))
	if err != nil {
		return 0, err
	}
	p.listed += int64(len(elements))
	for _, element := range elements {
		batch.addText(batch.Last.next(), []byte(element), p.source.decoder)
	}
	return len(elements), nil
}
