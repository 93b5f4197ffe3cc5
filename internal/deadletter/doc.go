// Package deadletter keeps dead letters: entries that could not be applied, as rows of
// aggregator.dead_letter, and what becomes of them.
//
// A dead letter is written in the transaction that passes its entry: that of the profile's mark, or, for what
// is not an event, that of the checkpoint (Queue). Hence it is there exactly once. It is settled once, too:
// dropped (Drop), or applied, in the transaction that applies its event (QueueApplied), which fails if
// another transaction has settled it.
//
// To write, to apply and to drop is safe to repeat: a dead letter that is there is left as it is, and one
// that is settled stays so. To find, count and list reads only.
package deadletter
