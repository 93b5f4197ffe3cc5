package main

// plan says how much is measured.
type plan struct {
	runs int // of each contender
}

// full takes some forty minutes, small two.
var (
	full  = plan{runs: 5}
	small = plan{runs: 2}
)

func (p plan) withRuns(n int) plan {
	p.runs = n
	return p
}
