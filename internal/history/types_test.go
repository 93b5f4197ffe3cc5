package history_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/history"
)

// Types may be padded, in lower case, and there twice: the smallest id counts.
func TestTypesOfOtherTables(t *testing.T) {
	pool := connect(t)
	exec(t, pool, `ALTER TABLE mbti DROP CONSTRAINT mbti_mbti_key, ALTER mbti TYPE char(6)`)
	exec(t, pool, `UPDATE mbti SET mbti = CASE WHEN mbti = 'ESFP' THEN 'other' WHEN id % 2 = 0 THEN ' ' || lower(mbti) `+
		`ELSE mbti END`)
	exec(t, pool, `INSERT INTO mbti (id, mbti) VALUES (-7, 'intj'), (1000, 'INTP')`)
	types, err := history.ReadTypes(t.Context(), pool)
	require.NoError(t, err)
	assert.Equal(t, []string{"ESFP"}, types.Missing())
	require.EqualValues(t, -7, *types[0], "INTJ")
	require.Less(t, *types[1], int64(1000), "INTP")

	snapshot(t, pool, 1)
	all := timeline(t, pool, 1, history.Selection{Limit: 1})
	require.Len(t, all, 1)
	assert.Equal(t, "INTJ", all[0].Type)
}
