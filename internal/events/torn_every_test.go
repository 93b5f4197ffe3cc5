//go:build faults

package events_test

// cuts are all.
func cuts(ends []int) []int {
	all := make([]int, ends[len(ends)-1]+1)
	for n := range all {
		all[n] = n
	}
	return all
}
