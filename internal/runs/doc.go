// Package runs keeps a record of what was done, for people: when, how much, how it ended. A run is a row of
// aggregator.run: a drain, a process of the service, a purge or another job.
//
// A Recorder writes the row now and then beside the work, best effort. What cannot be written is written
// later, or not at all: exactness does not depend on it, and no work fails because of it. The schedule reads
// in these rows when a job was last due (ReadLastDue).
//
// To write a row is safe to repeat, because each has a key of its own. A Recorder also removes old rows.
// Everything else reads only.
package runs
