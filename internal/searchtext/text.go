package searchtext

import (
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// Text is what a book is searched in: its title, author, publisher and topics, one space
// between any two words.
//
// It is in lower case and normalised to NFKC: Hangul is composed whatever it was typed on,
// wide letters are narrow, ligatures are letters. Topics are in the order of their normalised
// names, each once, in whatever order they come. PostgreSQL does the same to the words of
// a search by normalize(lower(normalize($1, NFKC)), NFKC).
func Text(title, author, publisher string, topics []string) string {
	names := make([]string, len(topics))
	for i, topic := range topics {
		names[i] = normalise(topic)
	}
	slices.Sort(names)
	parts := append([]string{normalise(title), normalise(author), normalise(publisher)}, slices.Compact(names)...)
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), " ")
}

// Some letters with an accent are one character only when they are small, and some have a
// small form only once they are normalised; hence before and after.
func normalise(text string) string {
	return strings.Join(strings.Fields(norm.NFKC.String(strings.ToLower(norm.NFKC.String(text)))), " ")
}
