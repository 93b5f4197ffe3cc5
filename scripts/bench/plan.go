package main

import "time"

// plan says how much is measured.
type plan struct {
	runs int // of each contender

	events   int64   // of A and of the ladders, over a tenth as many profiles
	many     int64   // of C and D
	old      int64   // what the old job is given
	backlogs []int64 // lengths of a backlog

	chunks, workers, together []int        // rungs of the ladders
	differing                 []difference // settings of the servers

	warmUp int64         // events that a service settles first
	rates  []float64     // events a second to offer the service, rising
	offer  time.Duration // for how long
	bisect int           // how often the gap is halved in which the capacity is found
	idle   time.Duration // for how long an idle service is watched, at a time

	books     []int64 // how many have texts to search in
	histories []int64 // rows in tables of history, rising
	removals  []int64 // rows to purge from each; divisors of these
	thinned   []int64 // rows in tables of history to thin out
	timelines int64   // profiles with a long history to look at

	micro int // runs of each Go benchmark; 0: left out
}

// full takes more than an hour.
var full = plan{
	runs:   5,
	events: 100_000, many: 1_000_000, old: 5_000, warmUp: 20_000,
	backlogs:  []int64{10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000},
	chunks:    []int{100, 300, 1_000, 3_000, 10_000, 30_000, 100_000},
	workers:   []int{1, 2, 4, 8, 16},
	together:  []int{1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000},
	differing: differing,
	rates:     []float64{500, 1_000, 2_000, 3_000, 4_000, 6_000, 8_000, 10_000, 12_500, 15_000, 20_000, 25_000, 30_000, 40_000, 50_000},
	offer:     15 * time.Second, bisect: 2, idle: 10 * time.Second,
	books:     []int64{10_000, 100_000, 1_000_000},
	histories: []int64{10_000, 1_000_000, 10_000_000}, removals: []int64{1_000, 10_000},
	thinned: []int64{10_000, 100_000, 1_000_000}, timelines: 20,
	micro: 5,
}

// small takes two minutes: a look, not a measurement.
var small = plan{
	runs:   1,
	events: 50_000, many: 100_000, old: 500, warmUp: 20_000,
	backlogs: []int64{10_000, 100_000},
	chunks:   []int{20_000, 50_000},
	workers:  []int{1, 4},
	together: []int{1, 200},
	rates:    []float64{1_000, 2_000, 4_000},
	offer:    3 * time.Second, idle: 3 * time.Second,
	books:     []int64{10_000},
	histories: []int64{10_000, 100_000}, removals: []int64{1_000, 10_000},
	thinned: []int64{10_000}, timelines: 2,
}
