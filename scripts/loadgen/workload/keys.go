package workload

import (
	"fmt"
	"strings"
)

// Kinds of source, sides of a list and forms of a stream entry.
const (
	Stream = "stream"
	List   = "list"

	Left  = "left"
	Right = "right"

	WireEvent  = "event"
	WireFields = "fields"
)

// DefaultKey is the key that a kind of source has where none is given.
func DefaultKey(kind string) string {
	if kind == List {
		return "BookLikeEventList"
	}
	return "book-like-events"
}

// Keys are the keys that producers push to, by partition.
func Keys(key string, partitions int) []string {
	if partitions <= 1 {
		return []string{key}
	}
	keys := make([]string, partitions)
	for p := range keys {
		keys[p] = fmt.Sprintf("%s:{%d}", key, p)
	}
	return keys
}

// StreamOf is the stream by whose name the aggregator knows what was pushed to a key: the
// key itself or, for a list, the stream beside it, in the same slot of a Redis Cluster.
func StreamOf(kind, key string) string {
	switch {
	case kind == Stream:
		return key
	case hasHashTag(key):
		return key + ":stream"
	}
	return "{" + key + "}:stream"
}

// hasHashTag tells whether Redis Cluster hashes only a part of the key: what stands
// between the first brace and the next closing one, unless that is nothing.
func hasHashTag(key string) bool {
	_, after, found := strings.Cut(key, "{")
	tag, _, closed := strings.Cut(after, "}")
	return found && closed && tag != ""
}
