package aggregator

import (
	"context"

	"aggregator/internal/postgres"
)

// fits asks whether this program works with the schema, and reports what it finds. An attempt asks when it
// begins, and a chunk that finds another schema than ours, before anything is applied: a newer program may migrate at
// any time.
func (p *partition) fits(ctx context.Context) error {
	schema, err := postgres.CheckSchema(ctx, p.pool)
	if err != nil {
		return err
	}
	if p.options.Schema != nil {
		p.options.Schema(schema)
	}
	return nil
}
