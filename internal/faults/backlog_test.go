//go:build !faults

package faults_test

// backlog is how many events TestShapes drains at last: ten chunks. With the tag faults it is ten times as many.
const backlog = 10_000
