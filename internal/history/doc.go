// Package history keeps what a child's personality was, and when.
//
// Every chunk that changes a profile leaves one row: the eight cumulative MBTI scores,
// the type that they make, and the preferred genres and topics, as they stand after the
// chunk. Queue puts the statements that change the scores and write the row onto the
// batch of the profile's transaction.
package history
