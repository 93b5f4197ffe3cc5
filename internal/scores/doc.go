// Package scores adds up what events mean and writes it to the score tables.
//
// Fold turns the events of one profile into a Delta, knowing neither Redis nor
// PostgreSQL nor the clock; Queue puts the statements that apply deltas onto the batch
// of a profile's transaction; Catalogue remembers books and profiles.
package scores
