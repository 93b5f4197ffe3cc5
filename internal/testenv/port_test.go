package testenv

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A reserved port is nobody else's, also while no server listens on it; once its folder is removed it is free.
func TestReservedPorts(t *testing.T) {
	const many = 300 // by chance alone, two would be the same
	var ours, theirs folder
	taken := map[int]bool{}
	for i := range many {
		owner := &ours
		if i%2 == 1 {
			owner = &theirs
		}
		port, err := owner.reservePort(t.Context())
		require.NoError(t, err)
		require.False(t, taken[port])
		taken[port] = true
		require.True(t, free(t.Context(), port))
	}
	require.NoError(t, ours.remove())
	require.NoError(t, theirs.remove())
	for range many {
		port, err := ours.reservePort(t.Context())
		require.NoError(t, err)
		if taken[port] {
			require.NoError(t, ours.remove())
			return
		}
	}
	t.Fatal("no port was given again")
}
