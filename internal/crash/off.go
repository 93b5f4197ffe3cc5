//go:build !faults

// Package crash has the points at which the fault suite interferes.
package crash

// At does nothing in a normal build.
func At(string) {}
