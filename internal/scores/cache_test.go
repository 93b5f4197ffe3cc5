package scores

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// table is what a cache loads from.
type table struct {
	rows   map[int64]string
	loads  [][]int64
	during func() // called while a load is at work, after it has read the rows; may be nil
	fails  error
}

func (s *table) load(_ context.Context, ids []int64) (map[int64]string, error) {
	s.loads = append(s.loads, ids)
	found := make(map[int64]string)
	for _, id := range ids {
		if v, ok := s.rows[id]; ok {
			found[id] = v
		}
	}
	if during := s.during; during != nil {
		s.during = nil
		during()
	}
	return found, s.fails
}

func newTable() (*table, *cache[string]) {
	s := &table{rows: map[int64]string{1: "one", 2: "two", 3: "three"}}
	return s, newCache(3, time.Hour, s.load)
}

func TestCacheGet(t *testing.T) {
	s, c := newTable()
	found, err := c.get(t.Context(), []int64{2, 9, 1, 2, 9})
	require.NoError(t, err)
	assert.Equal(t, map[int64]string{1: "one", 2: "two"}, found)
	found, err = c.get(t.Context(), []int64{9, 1})
	require.NoError(t, err)
	assert.Equal(t, map[int64]string{1: "one"}, found)
	assert.Equal(t, [][]int64{{1, 2, 9}, {9}}, s.loads, "each once, and what is missing again")
	s.fails = errors.New("broken")
	_, err = c.get(t.Context(), []int64{1, 3})
	require.ErrorIs(t, err, s.fails)
}

func TestCachePrefetch(t *testing.T) {
	s, c := newTable()
	n, err := c.prefetch(t.Context(), []int64{2, 9, 2})
	require.NoError(t, err)
	assert.Equal(t, 2, n)
	n, err = c.prefetch(t.Context(), []int64{2, 2})
	require.NoError(t, err)
	assert.Zero(t, n)
	found, err := c.get(t.Context(), []int64{2})
	require.NoError(t, err)
	assert.Equal(t, map[int64]string{2: "two"}, found)
	assert.Equal(t, [][]int64{{2, 9}}, s.loads)

	n, err = c.prefetch(t.Context(), []int64{1, 3, 4})
	require.NoError(t, err)
	assert.Zero(t, n, "there is no room for all")
	assert.Len(t, s.loads, 1)

	s.fails = errors.New("broken")
	_, err = c.prefetch(t.Context(), []int64{3})
	require.ErrorIs(t, err, s.fails)
	s.fails = nil
	found, err = c.get(t.Context(), []int64{3})
	require.NoError(t, err)
	assert.Equal(t, map[int64]string{3: "three"}, found, "what failed is looked for again")
}

// What is forgotten while a load is at work is not remembered by it.
func TestCacheForgetsWhileLoading(t *testing.T) {
	for name, forget := range map[string]func(*cache[string]){
		"one": func(c *cache[string]) { c.forget(1) },
		"all": (*cache[string]).forgetAll,
	} {
		for how, load := range map[string]func(*cache[string]) error{
			"get": func(c *cache[string]) error {
				_, err := c.get(t.Context(), []int64{1})
				return err
			},
			"prefetch": func(c *cache[string]) error {
				_, err := c.prefetch(t.Context(), []int64{1})
				return err
			},
		} {
			t.Run(how+" "+name, func(t *testing.T) {
				s, c := newTable()
				s.during = func() {
					s.rows[1] = "new"
					forget(c)
				}
				require.NoError(t, load(c))
				found, err := c.get(t.Context(), []int64{1})
				require.NoError(t, err)
				assert.Equal(t, map[int64]string{1: "new"}, found)
			})
		}
	}
}

// Who asks while a prefetch is at work does not get what that has read before.
func TestCacheGetBesidePrefetch(t *testing.T) {
	s, c := newTable()
	s.during = func() {
		s.rows[9] = "nine"
		found, err := c.get(t.Context(), []int64{9})
		require.NoError(t, err)
		assert.Equal(t, map[int64]string{9: "nine"}, found)
	}
	_, err := c.prefetch(t.Context(), []int64{9})
	require.NoError(t, err)
	found, err := c.get(t.Context(), []int64{9})
	require.NoError(t, err)
	assert.Equal(t, map[int64]string{9: "nine"}, found)
}
