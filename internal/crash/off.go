//go:build !faults

package crash

// At does nothing in a normal build.
func At(string) {}
