// Package events knows what an event is, how it looks on the wire, and how to get at the events in Redis: by
// position in a stream, with a list as an inlet into one.
//
// Reading removes nothing and moves no shared cursor, so any number of readers at once, and any number of
// repeated calls, are harmless. Only Trim removes entries, and only those that its caller says are processed
// and that no other consumer group still needs.
//
// Every call may be repeated after an error, whatever became of the first try. That is why the client must
// not retry by itself (go-redis: MaxRetries -1). Canceling a context does not interrupt a call that waits in
// Wait for longer than its block time.
package events
