// Package searchtext keeps book.search_text, by which books are found, in step with what it
// is derived from.
//
// Refresh looks at all books, by key, and writes where the text that stands is not the one
// that Text derives. It remembers nothing: no trigger tells it of changes and no time says
// since when, so nothing is missed that a trigger does not see or a clock has wrong. See
// docs/decisions.
//
// Books may be edited, added and removed meanwhile:
//
//   - A text is written only if title, author, publisher and text are still as they were
//     read, under a lock on the row that the statement takes, and gives back as it ends.
//   - A row that another session has locked is not waited for. It is tried again at the end.
//   - Topics may change without a trace in the row of the book. So each book that was written is
//     read once more, after the commit, until what stands is what is derived.
//
// Hence, when Refresh ends and reports none as busy, each book that was there from its begin
// to its end has had, at some moment in between and after the last write of ours, the text of
// what stood at that moment. What is edited later is for the next one. It may be ended at any
// instant, and run beside others of its kind.
package searchtext
