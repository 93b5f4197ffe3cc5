package deadletter

import (
	"github.com/jackc/pgx/v5"

	"aggregator/internal/events"
	"aggregator/internal/postgres"
)

// Content is what a dead letter says: which entry could not be applied, and why.
type Content struct {
	Position  events.Position
	ProfileID *int64 // nil if the entry is no event
	BookID    *int64 // nil if the entry is no event
	Reason    events.Reason
	SQLState  *string // of PostgreSQL's error, if that is the reason
	Detail    string  // for a person; printable
	Payload   events.Payload
}

// Rejected is the content for an entry that is no event.
func Rejected(r events.Rejection) Content {
	return Content{Position: r.Position, Reason: r.Reason, Detail: r.Detail, Payload: r.Payload}
}

// Unapplied is the content for an event.
func Unapplied(e events.Event, reason events.Reason, detail string) Content {
	return Content{
		Position: e.Position, ProfileID: &e.ProfileID, BookID: &e.BookID,
		Reason: reason, Detail: detail, Payload: e.Payload(),
	}
}

// Queue puts the statement that writes dead letters onto the batch of one transaction: the one that passes their
// entries. Without dead letters there is no statement. A dead letter that is there already is left as it is.
func Queue(batch *pgx.Batch, source string, letters []Content) {
	if len(letters) == 0 {
		return
	}
	var (
		n                = len(letters)
		ms, seq          = make([]int64, n), make([]int64, n)
		profiles, books  = make([]*int64, n), make([]*int64, n)
		reasons, details = make([]string, n), make([]string, n)
		payloads         = make([][]byte, n)
		forms            = make([]string, n)
		sqlstates        = make([]*string, n)
	)
	for i, l := range letters {
		ms[i], seq[i] = l.Position.Ms, l.Position.Seq
		profiles[i], books[i] = l.ProfileID, l.BookID
		reasons[i], details[i], sqlstates[i] = string(l.Reason), l.Detail, l.SQLState
		payloads[i], forms[i] = l.Payload.Bytes, string(l.Payload.Form)
		if payloads[i] == nil {
			payloads[i] = []byte{} // an empty event is not a missing one
		}
	}
	batch.Queue(`
INSERT INTO aggregator.dead_letter (source, position_ms, position_seq, child_profile_id, book_id,
    reason, sqlstate, detail, payload, payload_form)
SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
    $6::text[], $7::text[], $8::text[], $9::bytea[], $10::text[])
ON CONFLICT DO NOTHING`, source, ms, seq, profiles, books, reasons, sqlstates, postgres.Texts(details), payloads, forms)
}
