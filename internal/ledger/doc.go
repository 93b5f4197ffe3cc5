// Package ledger knows what has been settled: the half of exactly-once that lives in
// PostgreSQL.
//
// A mark says, for a profile and a source, which event was applied last. It moves in
// the transaction that applies the events, as its first statement and by
// compare-and-set: a transaction that starts from another place than the mark's fails
// as a whole (verdict.MarkMoved), and whoever sent it reads the mark again. A mark is sound
// because every reader sees an unbroken run of events from the checkpoint on.
//
// A checkpoint says up to where every entry of a source is settled. The transactions of
// profiles commit asynchronously: PostgreSQL may lose the latest of them in a crash,
// marks and scores together. The checkpoint commits synchronously, which flushes all
// that came before it, and only if the marks of all profiles in the chunk are in place;
// otherwise, and when it starts from another place than the checkpoint's, it is refused
// (ErrRefused) and the chunk is read again. Only what is behind a checkpoint may be
// trimmed in Redis.
//
// An entry that is no event becomes a dead letter in the transaction of the checkpoint that
// passes it: see package deadletter.
//
// A reset puts marks and checkpoints to zero, and an incident is evidence that these and
// Redis do not go together any more.
//
// After any error whose outcome is unknown the caller forgets what it knows and starts
// again from the checkpoint; every function here may then be repeated.
package ledger
