// Package cluster says which instance works on which source, or does a job: several instances
// share the sources, and hand them over when one joins or leaves.
//
// Each instance has a row in aggregator.member, and each source a lease, a row in
// aggregator.lease. Times are PostgreSQL's. A Keeper renews both with one statement every third
// of their time, which also returns what all others have. From that each instance decides for
// itself what it holds too much of and what it takes (Shares): there is no leader. What a living
// instance holds is never taken from it; it gives it up.
//
// Leases save double work and guarantee nothing: two instances that work on a source at once, both sure that it
// is theirs, are as exact as one. A lease whose holder is gone runs out.
//
// Jobs, and commands that must be alone, have a lease of their own: see Alone.
package cluster
