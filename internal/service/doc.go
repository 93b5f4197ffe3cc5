// Package service is the running service, and what commands share with it: connections by the
// settings, and jobs that one instance does at a time.
//
// An Instance is what works: settings, a log, a name for leases. It opens connections and does a job by hand
// (ByHand). An Engine is an aggregator with its connections, which drains former sources, too. A Service keeps
// an engine running:
//
//	Open ---> Run ---------------------------------------> Run returns ---> Close
//	           |   working: Engine.Run, and a timetable
//	           |   for each job that has a schedule
//	           |
//	           +-- Reload: the chunk in flight is finished, and
//	           |   another engine goes on, on the same connections
//	           |
//	           +-- ctx ends: the chunk in flight is finished within
//	           |   shutdown.grace; nil
//	           |
//	           +-- a source halts, or a scheduled drain fails: the error
//
// Nothing is handed over from one engine to the next, nor from one process to the next: each begins
// at the checkpoint (package aggregator). So Run may be ended at any moment, and started again, and
// any number of services may run on the same source. With leases one of them works on it. No state
// belongs to the process: services in one process do not know of each other.
//
// What can fail, and what becomes of it:
//
//   - A server that is not there when the service is opened is an error of Open. While it runs,
//     the service waits until the outage ends: the loop of each source retries, and so does each timetable.
//   - Settings that cannot be read, or are invalid, change nothing. The log and a metric say so.
//   - A job that fails because of a server is tried again, under the same record. A job that fails for good is
//     done again when it is due the next time; a scheduled drain that does ends the service.
//   - An instance that dies while it does a job is in the way until its lease runs out. Another instance then
//     does the job.
//   - Former sources that cannot be drained yet are looked at again every minute.
//   - systemd is told that the service is alive as long as no loop hangs (aggregator.Status.Hangs).
//     A loop that waits for a server does not hang.
//   - The listener may fail later on: that is logged, and the service works on.
//
// Most of what waits goes by a clock that a test can replace. The clock of PostgreSQL decides which instance has
// a lease; the clock of this machine decides when a job is due.
package service
