package deadletter

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Choice is which dead letters a person has chosen: one, or those of a filter.
type Choice struct {
	One    *ID
	Filter Filter
	Limit  int // at most so many of those of the filter; 0: all
}

// String is what a record of a run says of them. It names no child profile, because records are not erased.
func (c Choice) String() string {
	f := c.Filter
	if c.One != nil {
		return "the dead letter " + c.One.String()
	}
	var parts []string
	if len(f.Reasons) > 0 {
		names := make([]string, len(f.Reasons))
		for i, r := range f.Reasons {
			names[i] = string(r)
		}
		parts = append(parts, "of reason "+strings.Join(names, ", "))
	}
	if len(f.Sources) > 0 {
		parts = append(parts, "of source "+strings.Join(f.Sources, ", "))
	}
	if f.ProfileID != nil {
		parts = append(parts, "of one profile")
	}
	if f.OlderThan > 0 {
		parts = append(parts, "older than "+f.OlderThan.String())
	}
	if f.NewerThan > 0 {
		parts = append(parts, "newer than "+f.NewerThan.String())
	}
	if c.Limit > 0 {
		parts = append(parts, fmt.Sprintf("at most %d", c.Limit))
	}
	return strings.Join(append([]string{"dead letters"}, parts...), " ")
}

// Pages returns the dead letters that are chosen, so many at a time. Errors: ErrNone, and
// ErrSettled, of one that is named. Reads only.
func (c Choice) Pages(ctx context.Context, pool *pgxpool.Pool, size int) (iter.Seq2[[]Letter, error], error) {
	if c.One == nil {
		return Limited(Pages(ctx, pool, c.Filter, size), c.Limit), nil
	}
	letter, err := Find(ctx, pool, *c.One)
	if err == nil && letter.Settled != nil {
		err = fmt.Errorf("%s: %w: %s at %s", *c.One, ErrSettled, letter.SettledAs,
			letter.Settled.UTC().Format(time.RFC3339))
	}
	return func(yield func([]Letter, error) bool) { yield([]Letter{letter}, nil) }, err
}
