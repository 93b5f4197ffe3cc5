// Package lease keeps leases: which instance works on a source, or does a job, for some seconds.
// They are rows of aggregator.lease, and times are PostgreSQL's.
//
// A lease saves double work and guarantees nothing: two instances at once, both sure that it is
// theirs, are as exact as one. A holder renews it; that of one who is gone runs out.
//
// To acquire and to release one is safe to repeat, also after a lost reply.
package lease
