// Package ledger knows what has been processed: the half of exactly-once that lives in PostgreSQL.
//
// A mark says, for a profile and a source, which event was processed last. It moves in the transaction that
// applies the events, as its first statement and by compare-and-set. A transaction that starts from another
// position than the mark's fails as a whole (verdict.MarkMoved), and the applier that sent it reads the mark
// again. A mark is sound because every reader sees an unbroken run of events from the checkpoint on.
//
// A checkpoint says up to where every entry of a source is processed. The transactions of profiles commit
// asynchronously: PostgreSQL may lose the latest of them in a crash, marks and scores together. The transaction
// of the checkpoint commits synchronously, which flushes all that came before it, and only if the marks of all
// profiles in the chunk are in place. Otherwise, and when it starts from another position than the
// checkpoint's, it is refused (ErrRefused) and the chunk is read again. Only entries at or before a checkpoint
// may be trimmed in Redis.
//
// An entry that is no event becomes a dead letter in the transaction of the checkpoint that passes it:
// see package deadletter.
//
// A reset puts marks and checkpoints to zero. An incident is evidence that these and Redis do not agree any more.
//
// After any error whose outcome is unknown the caller forgets what it knows and starts again from the
// checkpoint; every function here may then be repeated.
package ledger
