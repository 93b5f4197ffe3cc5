package postgres_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

// The list is what the migrations make, no less and no more.
func TestListOfOurs(t *testing.T) {
	t.Parallel()
	pool := openPool(t, testenv.Database(t))
	there, err := postgres.Ours(t.Context(), pool)
	require.NoError(t, err)
	require.Equal(t, slices.Sorted(maps.Keys(there)), slices.Sorted(slices.Values(postgres.ListOfOurs())))
	absent, err := postgres.FindAbsent(t.Context(), openPool(t, testenv.As(t, testenv.Database(t), "aggregator_daemon")))
	require.NoError(t, err)
	require.True(t, absent.None(), absent.All())
}
