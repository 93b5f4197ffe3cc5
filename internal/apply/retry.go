package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/deadletter"
	"aggregator/internal/events"
	"aggregator/internal/history"
	"aggregator/internal/postgres"
	"aggregator/internal/scores"
	"aggregator/internal/verdict"
)

// Retrier applies dead letters from their rows. It decides again what an event is worth, and whether it is
// one: since then the weights may have got an action, or the application a book.
//
// A dead letter is applied in the transaction that settles it, by compare-and-set. Whatever happens to the
// reply, and also if another process retries the dead letter at the same time, its event counts once. The
// daemon may work on the same profile meanwhile. All of it is safe to repeat.
type Retrier struct {
	Pool      *pgxpool.Pool
	Catalogue *scores.Catalogue
	Decoder   events.Decoder
	Preferred scores.Preference
	Journal   bool          // the event of a row of history is kept with it
	Durable   bool          // a dead letter is reported as applied when it is on disk, not before
	Timeout   time.Duration // for each dead letter, after which a server that does not answer is given up
}

// RetryPage is how many dead letters are best retried with one call: their profiles and books are
// looked up together.
const RetryPage = 100

// Retried says what became of dead letters that were retried.
type Retried struct {
	Applied int
	Before  int              // settled by another process, a moment before
	Failed  map[string]int64 // by why they still cannot be applied
}

// Tried is how many dead letters were retried.
func (r Retried) Tried() int64 { return int64(r.Applied+r.Before) + r.StillDead() }

// StillDead is how many dead letters still cannot be applied.
func (r Retried) StillDead() (n int64) {
	for _, of := range r.Failed {
		n += of
	}
	return n
}

func (r *Retried) fail(why string) {
	if r.Failed == nil {
		r.Failed = make(map[string]int64)
	}
	r.Failed[why]++
}

// Clone returns a copy that Add does not change.
func (r Retried) Clone() Retried {
	r.Failed = maps.Clone(r.Failed)
	return r
}

// Add adds what became of other dead letters.
func (r *Retried) Add(other Retried) {
	r.Applied += other.Applied
	r.Before += other.Before
	for why, n := range other.Failed {
		if r.Failed == nil {
			r.Failed = make(map[string]int64)
		}
		r.Failed[why] += n
	}
}

// Retry tries to apply the dead letters, one after the other, and says what became of them. Why one still
// cannot be applied is recorded with it. It ends with an error if a server fails or the schema does not fit,
// or with ctx. What is not counted then was not tried, except one dead letter, which may have been applied.
func (r *Retrier) Retry(ctx context.Context, letters []deadletter.Letter) (Retried, error) {
	var done Retried
	decoded := make([]events.Event, len(letters))
	reasons := make([]string, len(letters)) // why it is no event; empty if it is
	profiles, books := make([]int64, 0, len(letters)), make([]int64, 0, len(letters))
	for i, letter := range letters {
		event, reason, detail := r.Decoder.Decode(letter.Payload)
		event.Position = letter.Position
		decoded[i] = event
		if reason != "" {
			reasons[i] = detail
			continue
		}
		profiles, books = append(profiles, event.ProfileID), append(books, event.BookID)
	}
	known, err := r.lookUp(ctx, profiles, books)
	if err != nil {
		return done, err
	}
	for i, letter := range letters {
		why, err := r.one(ctx, letter.ID(), decoded[i], reasons[i], known)
		switch {
		case errors.Is(err, deadletter.ErrSettled):
			done.Before++
		case err != nil:
			return done, err
		case why == "":
			done.Applied++
		default:
			done.fail(why)
		}
	}
	return done, nil
}

// one retries a dead letter, whose reason is why it is no event, and says and records why it still cannot be applied.
func (r *Retrier) one(ctx context.Context, id deadletter.ID, e events.Event, reason string, known known) (
	why string, err error,
) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	if why = reason; why == "" {
		why, err = r.apply(ctx, id, e, known)
	}
	if err == nil && why != "" {
		err = deadletter.Attempted(ctx, r.Pool, id, why)
	}
	return why, err
}

func (r *Retrier) lookUp(ctx context.Context, profiles, books []int64) (known known, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	if known.profiles, err = r.Catalogue.Profiles(ctx, profiles); err != nil {
		return known, err
	}
	if known.books, err = r.Catalogue.Books(ctx, books); err != nil {
		return known, err
	}
	known.rules.preferred, known.rules.journal = r.Preferred, r.Journal
	known.rules.types, err = history.ReadTypes(ctx, r.Pool)
	return known, err
}

// apply applies one dead letter, or says why it still cannot be applied. The error has deadletter.ErrSettled
// if the dead letter was settled before.
func (r *Retrier) apply(ctx context.Context, id deadletter.ID, e events.Event, known known) (why string, err error) {
	batch, why := known.revival(id, e)
	if batch == nil {
		return why, nil
	}
	err = r.send(ctx, batch)
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) {
		if err != nil {
			err = fmt.Errorf("applying the dead letter %s: %w", id, err)
		}
		return "", err
	}
	switch verdict.Of(refusal) {
	case verdict.Settled:
		return "", deadletter.ErrSettled
	case verdict.Gone:
		r.Catalogue.Forget(e.ProfileID)
		delete(known.profiles, e.ProfileID)
		return profileUnknown, nil
	case verdict.Incomplete: // although it creates what it needs
		return keptOut(refusal).Message, nil
	case verdict.Data:
		return fmt.Sprintf("%s (SQLSTATE %s)", refusal.Message, refusal.Code), nil
	}
	return "", fmt.Errorf("applying the dead letter %s: %w", id, err)
}

// send runs a batch as one transaction.
func (r *Retrier) send(ctx context.Context, batch *pgx.Batch) error {
	if postgres.OnCitus(r.Pool.Config().ConnConfig) { // which has to be told where it begins and ends: see pipeline.send
		return postgres.Durably(ctx, r.Pool, func(tx pgx.Tx) error { return send(ctx, tx, batch) })
	}
	if r.Durable {
		return postgres.SendDurably(ctx, r.Pool, batch)
	}
	return r.Pool.SendBatch(ctx, batch).Close()
}
