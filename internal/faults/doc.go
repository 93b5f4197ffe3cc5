// Package faults is a suite of tests that break things on purpose: real daemon processes
// on real servers, with an independent program that pushes events, remembers which of them
// Redis acknowledged, and compares every row afterwards.
//
// Plain `go test` runs the short form: a kill at every named point of the loop, and
// overlapping instances. With -tags faults it runs everything, and -run TestControls runs
// daemons that were weakened, each of which the suite must find out. See
// docs/reliability.md.
package faults
