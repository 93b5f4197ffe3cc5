// Package scores adds up what events mean and writes it to the score tables.
//
// Fold turns the events of one profile into a Delta, knowing neither Redis nor
// PostgreSQL nor the clock; Queue puts the statements that apply deltas onto the batch
// of a transaction, and Create those that make the rows they need; Catalogue remembers
// books and profiles.
package scores
