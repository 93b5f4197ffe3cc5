// Package history keeps what a child's personality was, and when.
//
// Every chunk that changes a profile leaves one row: the eight cumulative MBTI scores, the type that they make,
// and the preferred genres and topics, as they are after the chunk. The function aggregator.apply changes the
// scores and writes the row, in the profile's transaction.
package history
