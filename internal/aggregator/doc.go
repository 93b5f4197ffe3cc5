// Package aggregator is the loop: read, fold, apply, checkpoint, trim.
//
// Each partition of the source has a loop of its own. One goroutine reads entries by
// position and gathers them into chunks; another settles one chunk at a time while the
// next is being gathered:
//
//   - the marks of the chunk's profiles are read, events behind them skipped;
//   - what is left is folded into a delta a profile, and workers send one transaction a
//     profile down their connections, many in flight: mark, scores, history;
//   - the checkpoint is moved over the chunk, durably, if all its marks are in place;
//   - entries up to the checkpoint are trimmed in Redis.
//
// There is no other recovery than to start again: after any error all that is known of
// the source is dropped, and the loop begins anew at the checkpoint in PostgreSQL. The
// marks skip what was applied. This holds for a crash of either server, a lost
// connection, a lost reply, a second instance and a kill at any instant alike; package
// ledger says why nothing is lost or counted twice.
//
// A profile's transaction that fails for a reason of its own does not stop the others.
// If its mark has moved, it is folded anew from there. If its profile is gone, its
// events become dead letters. If PostgreSQL refuses its data, its events are applied in
// ever smaller runs, until those that are refused stand alone and become dead letters.
//
// Dead letters are rows, and are retried from there (Retrier): one transaction applies
// the event and settles the row, in the same order as those above. Run does this by
// itself for events whose profile or book was not there yet. When most of a source's
// latest entries would become dead letters, the source halts instead: that is a mistake in
// the deployment.
//
// When the context that Run or Drain was given ends, reading stops, the chunk in hand
// is finished within the grace, and they return.
package aggregator
