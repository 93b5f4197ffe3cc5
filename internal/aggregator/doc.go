// Package aggregator is the loop: read, fold, apply, checkpoint, trim.
//
// Each partition of the source has a loop of its own. One goroutine reads entries by position and gathers them
// into chunks; another processes one chunk at a time while the next is being gathered:
//
//   - package apply writes what it adds up to, a transaction for each profile, many in flight;
//   - the checkpoint is moved over the chunk, durably, if all its marks are in place;
//   - entries up to the checkpoint are trimmed in Redis.
//
// There is one way to recover: after any error all that is known of the source is dropped, and the loop begins
// again at the checkpoint in PostgreSQL. The marks skip what was applied. This holds for a crash of either
// server, a lost connection, a lost reply, a second instance and a kill at any instant alike; package ledger
// says why nothing is lost or counted twice.
//
// Dead letters are rows, and are retried from there (apply.Retrier). Run does this by itself for events whose
// profile or book was not there yet. When most of a source's latest entries would become dead letters, or
// PostgreSQL refuses everything for the same reason, the source halts instead: that is a misconfiguration.
//
// When the context that Run or Drain was given ends, reading stops, the chunk in flight is finished within
// the grace, and they return.
package aggregator
