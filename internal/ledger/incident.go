package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/events"
	"aggregator/internal/postgres"
)

// IncidentKind is what happened to a source.
type IncidentKind string

const (
	// PostgresSetBack: the bookmark in Redis is after the checkpoint in PostgreSQL.
	PostgresSetBack IncidentKind = "postgres_set_back"
	// RedisSetBack: the checkpoint in PostgreSQL is after all that Redis has ever given out.
	RedisSetBack IncidentKind = "redis_set_back"
	// SourceMissing: PostgreSQL has a checkpoint of it, and Redis has neither stream nor bookmark.
	SourceMissing IncidentKind = "source_missing"
	// EntriesRemoved: entries were removed from Redis before they were read.
	EntriesRemoved IncidentKind = "entries_removed"
	// CountMismatch: marks and dead letters do not add up to what the checkpoint has passed.
	CountMismatch IncidentKind = "count_mismatch"
)

// IncidentKinds are all of them.
var IncidentKinds = []IncidentKind{PostgresSetBack, RedisSetBack, SourceMissing, EntriesRemoved, CountMismatch}

// Incident is something that happened to a source and that a person must know of. It is open until a person
// accepts it, whatever happens to the source meanwhile. At most one incident of a kind is open for a source:
// what comes later is added to it.
type Incident struct {
	ID         int64 // 0: not recorded
	Source     string
	Kind       IncidentKind
	Epoch      int64           // of the source's checkpoint
	From, To   events.Position // entries after From up to To are concerned
	Added      int64           // entries ever added up to To, as the bookmark in Redis counts; of a PostgresSetBack
	Entries    int64           // how many they are; of a CountMismatch events, negative if counted twice
	Retained   int64           // of these, still in Redis when it was found: read again
	MarkedPast *int64          // of the others, applied by marks after the checkpoint; nil: not known
	Detected   time.Time
	Accepted   *time.Time
	By         *string // the instance that accepted it
}

// Gone is how many of the entries were not in Redis any more.
func (i Incident) Gone() int64 { return max(0, i.Entries-i.Retained) }

// ByPosition says whether positions show what happened. If not, counts do; of a PostgresSetBack, that the
// database had no checkpoint of the source.
func (i Incident) ByPosition() bool { return i.To.After(i.From) }

// Lost is how many of the entries are not applied anywhere and cannot be read any more, as far as is known.
func (i Incident) Lost() int64 {
	switch {
	case i.Kind == EntriesRemoved, i.Kind == CountMismatch:
		return max(0, i.Entries)
	case i.Kind != PostgresSetBack:
		return 0 // what Redis lost before it was read cannot be counted
	case i.MarkedPast != nil:
		return max(0, i.Gone()-*i.MarkedPast)
	}
	return i.Gone()
}

// String says in one line what happened, from when to when, and to how many entries.
func (i Incident) String() string {
	switch i.Kind {
	case PostgresSetBack:
		return i.postgresSetBack()
	case RedisSetBack:
		cause := "Redis was set back (a restore, or a failover to a replica that lagged), or the stream was deleted and " +
			"recreated: "
		if !i.ByPosition() {
			return cause + fmt.Sprintf("%d entries fewer were added to it than were processed up to %s; "+
				"what it forgot unread is lost", i.Entries, when(i.To))
		}
		return cause + fmt.Sprintf("its last entry was %s, and entries up to %s have been processed, "+
			"%d more than it knows of; what it forgot unread is lost", when(i.From), when(i.To), i.Entries)
	case SourceMissing:
		return fmt.Sprintf("PostgreSQL has processed %s of this source, up to %s, and this Redis has never seen it: "+
			"it is another Redis or another database number (redis.url), or all of it was deleted (FLUSHALL, DEL)",
			oneOr(i.Entries, "1 entry", "%d entries"), when(i.To))
	case EntriesRemoved:
		return oneOr(i.Entries, "1 entry was removed from Redis before it was read",
			"%d entries were removed from Redis before they were read") +
			": XDEL, XTRIM, or XADD with MAXLEN or MINID; what they held is lost"
	case CountMismatch:
		if i.Entries < 0 {
			return oneOr(-i.Entries, "1 event too many is applied or a dead letter: it was counted twice",
				"%d events too many are applied or dead letters: some were counted twice")
		}
		return oneOr(i.Entries, "1 event that the checkpoint has passed is neither applied nor a dead letter: lost",
			"%d events that the checkpoint has passed are neither applied nor dead letters: lost")
	}
	return string(i.Kind)
}

// oneOr is the text for one, or that for another number.
func oneOr(n int64, one, more string) string {
	if n == 1 {
		return one
	}
	return fmt.Sprintf(more, n)
}

func (i Incident) postgresSetBack() string {
	var b strings.Builder
	b.WriteString("PostgreSQL was set back (a restore, or a failover to a standby that lagged), " +
		"or the same stream is drained into another database, too: ")
	if !i.ByPosition() {
		fmt.Fprintf(&b, "%d entries up to %s were processed, and this database has no checkpoint of the source; "+
			"it starts after them", i.Entries, when(i.To))
		return b.String()
	}
	fmt.Fprintf(&b, "entries up to %s were processed, and this database knows of those up to %s; %d lie between; "+
		"%d of them are still in Redis and are read again, %d are gone", when(i.To), when(i.From), i.Entries, i.Retained,
		i.Gone())
	if i.MarkedPast != nil && *i.MarkedPast > 0 {
		fmt.Fprintf(&b, ", of which %d are applied (marks in the database are after its checkpoint)", *i.MarkedPast)
	}
	if lost := i.Lost(); lost > 0 {
		fmt.Fprintf(&b, ": %d are lost for this database; trim.retain was too short to keep them", lost)
	} else {
		b.WriteString(": none is lost")
	}
	return b.String()
}

func when(p events.Position) string {
	if p.IsZero() {
		return p.String()
	}
	return p.String() + " (" + p.Time().Format(time.RFC3339) + ")"
}

const selectIncidents = `SELECT id, source, kind, epoch, from_ms, from_seq, to_ms, to_seq, to_entries, entries,
	retained, ahead,
    detected_at, accepted_at, accepted_by
FROM aggregator.incident `

func collectIncidents(ctx context.Context, db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, where string, args ...any,
) ([]Incident, error) {
	rows, _ := db.Query(ctx, selectIncidents+where+` ORDER BY id`, args...) // its error is also that of the rows
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (i Incident, err error) {
		err = row.Scan(&i.ID, &i.Source, &i.Kind, &i.Epoch, &i.From.Ms, &i.From.Seq, &i.To.Ms, &i.To.Seq,
			&i.Added, &i.Entries, &i.Retained, &i.MarkedPast, &i.Detected, &i.Accepted, &i.By)
		return i, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading incidents: %w", err)
	}
	return all, nil
}

// OpenIncidents returns the incidents of all sources in the database that are not accepted, oldest first.
func OpenIncidents(ctx context.Context, pool *pgxpool.Pool) ([]Incident, error) {
	return collectIncidents(ctx, pool, `WHERE accepted_at IS NULL`)
}

// Incidents returns all incidents of a source, oldest first, accepted ones among them.
func Incidents(ctx context.Context, pool *pgxpool.Pool, source string) ([]Incident, error) {
	return collectIncidents(ctx, pool, `WHERE source = $1`, source)
}

// ErrIncidentKnown says that another instance has recorded a part of an incident since it was
// compared with what is known. Compare again.
var ErrIncidentKnown = errors.New("another instance has recorded a part of this incident")

// Record writes an incident, durably, and returns it as it is recorded then. changed says whether that says
// more than before. If an incident of its kind is open for the source, it is added to that one. If it is
// known already, open or, a PostgresSetBack, also accepted, nothing changes. Safe to repeat, and for several
// instances at once. The errors are those of PostgreSQL, and ErrIncidentKnown. After an error, also of a
// context that ended, it may have been written.
func Record(ctx context.Context, pool *pgxpool.Pool, i Incident) (recorded Incident, changed bool, err error) {
	err = postgres.Durably(ctx, pool, func(tx pgx.Tx) error {
		// Without the lock two instances could both find nothing.
		if _, err := tx.Exec(ctx, `LOCK TABLE aggregator.incident IN SHARE ROW EXCLUSIVE MODE`); err != nil {
			return err
		}
		known, err := collectIncidents(ctx, tx, `WHERE source = $1 AND kind = $2`, i.Source, i.Kind)
		if err != nil {
			return err
		}
		var next Incident
		if next, changed, err = i.after(known); err != nil || !changed {
			recorded = next
			return err
		}
		rows, _ := tx.Query(ctx, insertIncident, next.Source, next.Kind, next.Epoch,
			// its error is also that of the rows
			next.From.Ms, next.From.Seq, next.To.Ms, next.To.Seq, next.Added, next.Entries, next.Retained, next.MarkedPast)
		next.ID, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
		recorded = next
		return err
	})
	if err != nil {
		return Incident{}, false, fmt.Errorf("recording an incident of %s: %w", i.Source, err)
	}
	return recorded, changed, nil
}

const insertIncident = `INSERT INTO aggregator.incident
    (source, kind, epoch, from_ms, from_seq, to_ms, to_seq, to_entries, entries, retained, ahead)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (source, kind) WHERE accepted_at IS NULL DO UPDATE SET epoch = excluded.epoch,
    from_ms = excluded.from_ms, from_seq = excluded.from_seq, to_ms = excluded.to_ms, to_seq = excluded.to_seq,
    to_entries = excluded.to_entries, entries = excluded.entries, retained = excluded.retained, ahead = excluded.ahead
RETURNING id`

// sameBooks says whether positions and counts of two incidents can be compared: a reset starts new ones.
func (i Incident) sameBooks(other Incident) bool {
	return i.Source == other.Source && i.Kind == other.Kind && i.Epoch == other.Epoch
}

// Beyond is what of a PostgresSetBack is after all that is known of the source, accepted incidents
// among that. If nothing is, To is not after From.
func (i Incident) Beyond(known []Incident) Incident {
	for _, one := range known {
		if i.sameBooks(one) && one.To.After(i.From) {
			i.From, i.Entries = one.To, max(0, i.Added-one.Added)
		}
	}
	return i
}

// News says whether the incident, as Record would write it, says more than those that are known.
func (i Incident) News(known []Incident) bool {
	_, changed, err := i.after(known)
	return changed || err != nil
}

// after is what the incident makes of those that are known of its source. It is not changed if they say as
// much already.
func (i Incident) after(known []Incident) (next Incident, changed bool, err error) {
	var open *Incident
	for k := range known {
		if known[k].Kind == i.Kind && known[k].Accepted == nil {
			open = &known[k]
		}
	}
	if i.Kind == PostgresSetBack {
		for _, one := range known {
			switch {
			case !i.sameBooks(one):
			case !i.To.After(one.To):
				return one, false, nil
			case one.To.After(i.From):
				return Incident{}, false, ErrIncidentKnown
			}
		}
	}
	if open == nil {
		return i, true, nil
	}
	next = *open
	switch i.Kind {
	case PostgresSetBack:
		next.Epoch, next.To, next.Added = i.Epoch, i.To, i.Added
		next.Entries, next.Retained = open.Entries+i.Entries, open.Retained+i.Retained
		if open.MarkedPast == nil || i.MarkedPast == nil {
			next.MarkedPast = nil
		} else {
			// It counts the marks as they are now, and those counted before are among them.
			ahead := max(*open.MarkedPast, *i.MarkedPast)
			next.MarkedPast = &ahead
		}
		return next, true, nil
	case EntriesRemoved:
		next.Entries = max(open.Entries, i.Entries) // it may have been seen in part
		return next, next.Entries > open.Entries, nil
	case CountMismatch:
		next.Entries = i.Entries
		return next, next.Entries != open.Entries, nil
	default:
		if !i.ByPosition() {
			next.Entries = max(open.Entries, i.Entries)
			return next, next.Entries > open.Entries, nil
		}
		if i.Epoch == open.Epoch && !i.To.After(open.To) {
			return *open, false, nil
		}
		next.Epoch, next.From, next.To, next.Entries = i.Epoch, i.From, i.To, i.Entries
		return next, true, nil
	}
}

// Rebase is by how much the counts of a source are corrected when its incidents are accepted.
type Rebase struct {
	Vanished   int64 // entries that Redis was given, not left and not read; negative: that Redis does not know of
	Difference int64 // events too many that were applied or are dead letters
}

// AcceptIncidents ends the open incidents of a source, which are those of the given ids; by is the instance
// that was told to. The checkpoint takes over what the accounts were off by, in a new epoch, so that any
// reader of the old checkpoint begins again from where it is. (That difference stays the same within an
// epoch, and does not depend on how far the checkpoint is.) It is one durable transaction. Safe to repeat
// with what was taken since. The error is ErrReset if the checkpoint is of another epoch, or gone.
func AcceptIncidents(ctx context.Context, pool *pgxpool.Pool, at Checkpoint, ids []int64, by string, off Rebase) error {
	err := postgres.Durably(ctx, pool, func(tx pgx.Tx) error {
		epoch := at.Epoch
		if off != (Rebase{}) {
			epoch++
			tag, err := tx.Exec(ctx, `UPDATE aggregator.checkpoint
SET base = base + $3 - $4, entries = entries + $3, epoch = epoch + 1 WHERE source = $1 AND epoch = $2`,
				at.Source, at.Epoch, off.Vanished, off.Difference)
			if err == nil && tag.RowsAffected() != 1 {
				err = ErrReset
			}
			if err != nil {
				return err
			}
			// What was accepted before is still about these positions.
			_, err = tx.Exec(ctx, `UPDATE aggregator.incident SET epoch = $3 WHERE source = $1 AND epoch = $2`,
				at.Source, at.Epoch, epoch)
			if err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `UPDATE aggregator.incident SET accepted_at = now(), accepted_by = $3
WHERE source = $1 AND id = ANY($2) AND accepted_at IS NULL`, at.Source, ids, by)
		return err
	})
	if err != nil {
		return fmt.Errorf("accepting the incidents of %s: %w", at.Source, err)
	}
	return nil
}
