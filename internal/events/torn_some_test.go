//go:build !faults

package events_test

// cuts are in the middle of each command, before the first and after the last: a Redis that starts
// is not cheap. make faults takes every byte.
func cuts(ends []int) []int {
	some, from := []int{0}, 0
	for _, end := range ends {
		some = append(some, (from+end)/2)
		from = end
	}
	return append(some, from)
}
