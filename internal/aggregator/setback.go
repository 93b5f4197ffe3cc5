package aggregator

import (
	"context"
	"errors"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/audit"
	"aggregator/internal/events"
	"aggregator/internal/ledger"
)

// sighting is what both servers say of a source, read in this order: the checkpoint, Redis, and the
// checkpoint again. A zero checkpoint means that there is none.
//
// The bookmark follows the checkpoint, and a reset puts it back before the checkpoint. Hence a bookmark is never
// after a checkpoint that is read later, however many instances work on the source, unless a reset comes in
// between, which the epoch shows. And Redis was given every entry up to the checkpoint before the checkpoint moved.
type sighting struct {
	before, after ledger.Checkpoint
	state         events.State
	known         []ledger.Incident // read between the two: accepting one that changes a count changes the epoch
	ours          bool              // the bookmark is of an aggregator, and not of a program that reads through the group
}

// compare returns what does not fit, except how much is still in Redis (Incident.Retained). Most is found by
// positions; counts show what positions cannot, and may show less than there is.
func compare(s sighting) (found []ledger.Incident) {
	at, state, mark := s.after, s.state, s.state.Bookmark
	add := func(kind ledger.IncidentKind, from, to events.Position, entries int64) {
		found = append(found, ledger.Incident{
			Source: at.Source, Kind: kind, Epoch: at.Epoch, From: from, To: to, Entries: max(0, entries),
		})
	}
	if at.Updated.IsZero() {
		if mark != nil && s.ours && !mark.Position.IsZero() {
			add(ledger.PostgresSetBack, mark.Position, mark.Position, mark.Entries) // it begins there
			found[0].Added = mark.Entries
		}
		return found
	}
	if s.before.Epoch != at.Epoch || s.before.Updated.IsZero() {
		return nil // it was reset, or begun, meanwhile
	}
	processed := at.Entries
	if mark != nil && mark.Position.After(at.Position) {
		add(ledger.PostgresSetBack, at.Position, mark.Position, mark.Entries-at.Entries)
		found[0].Added = mark.Entries
		processed = max(processed, mark.Entries)
	}
	switch past := s.before; {
	case past.Position.After(state.Last) && !state.Exists:
		add(ledger.SourceMissing, events.Position{}, past.Position, past.Entries)
	case past.Position.After(state.Last):
		add(ledger.RedisSetBack, state.Last, past.Position, past.Entries-state.Added)
	case state.Added < past.Entries:
		add(ledger.RedisSetBack, past.Position, past.Position, past.Entries-state.Added)
	case state.Added-state.Length > processed:
		// The true number is at least this: what is processed and not trimmed is counted as if it was not there.
		add(ledger.EntriesRemoved, at.Position, at.Position, state.Added-state.Length-processed)
	}
	return found
}

// Recognise finds out whether one of the servers went back in time, is another one than before, or has lost
// entries. For a source in normal operation there is nothing to find. It only reads from both servers, and
// returns no incident that is recorded already. Of an incident of PostgreSQL it counts what is still in
// Redis, which takes a second for a million entries.
func Recognise(ctx context.Context, pool *pgxpool.Pool, source *events.Source) ([]ledger.Incident, error) {
	s, err := look(ctx, pool, source)
	if err != nil {
		return nil, err
	}
	found := compare(s)
	if len(found) == 0 {
		return nil, nil
	}
	known := s.known
	var news []ledger.Incident
	for _, i := range found {
		switch i.Kind {
		case ledger.PostgresSetBack:
			i = i.Beyond(known)
		case ledger.EntriesRemoved:
			gone, told := goneBefore(known)
			if i.Entries -= gone; told || i.Entries <= 0 {
				continue
			}
		}
		if !i.News(known) {
			continue
		}
		if err := measure(ctx, pool, source, s.after, &i); err != nil {
			return nil, err
		}
		news = append(news, i)
	}
	return news, nil
}

// goneBefore is how many entries that Redis was given and does not have any more are explained by open
// incidents of PostgreSQL. Entries of accepted incidents are in the checkpoint's count. told says that Redis'
// own counts are known to be of no use: it was set back.
func goneBefore(known []ledger.Incident) (n int64, told bool) {
	for _, i := range known {
		switch {
		case i.Accepted != nil:
		case i.Kind == ledger.PostgresSetBack && i.ByPosition():
			n += i.Gone()
		case i.Kind == ledger.RedisSetBack, i.Kind == ledger.SourceMissing:
			told = true
		}
	}
	return n, told
}

func look(ctx context.Context, pool *pgxpool.Pool, source *events.Source) (s sighting, err error) {
	load := func() (ledger.Checkpoint, error) {
		at, err := ledger.Load(ctx, pool, source.Name())
		if errors.Is(err, ledger.ErrNoCheckpoint) {
			return ledger.Checkpoint{Source: source.Name()}, nil
		}
		return at, err
	}
	if s.before, err = load(); err != nil {
		return s, err
	}
	if s.state, err = source.Inspect(ctx); err != nil {
		return s, err
	}
	if s.known, err = ledger.Incidents(ctx, pool, source.Name()); err != nil {
		return s, err
	}
	if s.after, err = load(); err != nil || !s.after.Updated.IsZero() || s.state.Bookmark == nil {
		return s, err
	}
	s.ours, err = source.BookmarkIsOurs(ctx)
	return s, err
}

// measure counts what positions do not tell. Of an incident of PostgreSQL: what is still in Redis, and how
// much of the rest is applied. Of one that was found by counts: all entries that it is about.
func measure(
	ctx context.Context, pool *pgxpool.Pool, source *events.Source, at ledger.Checkpoint, i *ledger.Incident,
) (err error) {
	setBack := i.Kind == ledger.PostgresSetBack
	if at.Updated.IsZero() || !setBack && i.ByPosition() {
		return nil
	}
	if setBack {
		if i.Retained, err = source.Between(ctx, i.From, i.To); err != nil {
			return err
		}
		i.Entries = max(i.Entries, i.Retained)
	}
	b, err := audit.Take(ctx, pool, source)
	switch {
	case errors.Is(err, ledger.ErrNotInTime): // there are too many marks, or entries, to look through
		return nil
	case err != nil:
		return err
	case setBack:
		ahead := min(max(0, b.Difference()), i.Gone())
		i.MarkedPast = &ahead
	default:
		for _, exact := range b.Unrecorded() {
			if exact.Kind == i.Kind {
				i.Entries = exact.Entries
			}
		}
	}
	return nil
}

// RecordIncidents records what Recognise finds, and logs as an error what was not known before. Safe
// to repeat, and for several instances at once.
func RecordIncidents(ctx context.Context, pool *pgxpool.Pool, source *events.Source, log *slog.Logger) error {
	found, err := Recognise(ctx, pool, source)
	if err != nil {
		return err
	}
	return record(ctx, pool, found, log)
}

// Reconcile records what Recognise finds, and what the balance shows that no incident explains, as RecordIncidents
// does. It returns the balance as it was before that. The errors are those of RecordIncidents and audit.Take.
func Reconcile(
	ctx context.Context, pool *pgxpool.Pool, source *events.Source, log *slog.Logger,
) (audit.Balance, error) {
	if err := RecordIncidents(ctx, pool, source, log); err != nil {
		return audit.Balance{}, err
	}
	b, err := audit.Take(ctx, pool, source)
	if err != nil {
		return b, err
	}
	return b, record(ctx, pool, b.Unrecorded(), log)
}

func record(ctx context.Context, pool *pgxpool.Pool, found []ledger.Incident, log *slog.Logger) error {
	for _, i := range found {
		recorded, changed, err := ledger.Record(ctx, pool, i)
		if err != nil {
			return err
		}
		if changed {
			log.Error(recorded.String(), "incident", recorded.Kind, "source", recorded.Source,
				"from", recorded.From, "to", recorded.To,
				"entries", recorded.Entries, "retained", recorded.Retained, "lost", recorded.Lost())
		}
	}
	return nil
}

// recognise records what the servers contradict each other about, before the attempt does anything that
// removes the evidence. state and checkpoint are what the attempt begins with. As long as they agree, which
// is nearly always, it asks neither server.
func (p *partition) recognise(ctx context.Context, state events.State, checkpoint ledger.Checkpoint) error {
	s := sighting{before: checkpoint, after: checkpoint, state: state, ours: true}
	if len(compare(s)) == 0 {
		return nil
	}
	return RecordIncidents(ctx, p.pool, p.source, p.Aggregator.log)
}
