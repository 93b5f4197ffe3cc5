// Package apply writes what a chunk of events adds up to: a chunk's events in, committed rows out. It
// knows neither Redis nor the loop that calls it.
//
// A chunk goes through these steps. After an error none of them is repeated: the caller begins again
// at the checkpoint.
//
//	LookUp      sorts the events by profile: a segment is the events of one profile, in order. Reads the
//	            marks, drops what they have passed, looks up profiles and books.
//	Census      counts what will be dead letters, for the caller to say whether these are too many.
//	Apply       sends the transactions, and deals with what is refused.
//	Advance     is what moves the checkpoint, once all of it is applied.
//
// The transaction of a profile is a function of the schema, aggregator.apply
// (internal/postgres/migrations/00011_apply.sql): it moves the mark by compare-and-set, adds to the scores, and
// writes the history row. Three ways lead there. A call of the procedure apply_each has many profiles, each
// with a transaction of its own; that is the default. apply_together writes several profiles in one
// transaction, if the options say so. apply itself is called for what has dead letters, or was refused before.
//
// # What becomes of a transaction
//
//	unsent -> sent off -> committed    its answer says so; a crash of PostgreSQL may still lose it, which
//	             |                     the checkpoint finds out by the mark
//	             +-----> refused       it was rolled back
//	             +-----> unknown       the connection is lost: the error ends the attempt
//
// verdict.Of judges a refusal. Of a call with many profiles, the marks tell which of them was refused: those
// before it are committed, those after it were not tried and go on alone, as does all that shared a transaction.
//
//	the mark has moved     another instance was there: the mark is read, and what is left is folded again
//	the profile is gone    it is looked for; if it is not there, its events become dead letters
//	a score is missing     the transaction is sent again with care, which works whatever is in the way
//	data                   the segment is cut in halves until what is refused stands alone, and becomes a dead
//	                       letter; first in a trial that is rolled back, to see whether the data is to blame
//	anything else          ends the attempt
//
// A misconfiguration that makes PostgreSQL refuse everything is not a matter of data: see streak, and Probe.
//
// # One bad interleaving
//
// Instances A and B read the same events of profile 7 and see its mark at 99-0. A's transaction commits: the mark
// is at 105-0. B's finds no mark at 99-0, and its function raises LG001 before it has written anything. B reads the
// mark, drops the events up to 105-0, and sends what is left, or nothing. If the answer to A was lost, A's
// attempt ends with an error; its next one reads the mark, and drops the same events. Had the mark been read and
// written without being compared, B would have added the sums a second time: the fault suite has that as a
// control.
package apply
