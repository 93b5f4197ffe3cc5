package history

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// A row and its journal are found by their keys, however long the history of the profile is.
func TestExplainPlans(t *testing.T) {
	t.Parallel()
	pool := openPurged(t, 50_000)
	standing := strings.Join(explainPlan(t, pool, standingSQL, `1, 40000`), "\n")
	assert.Contains(t, standing, "Index Scan Backward using child_personality_history_pkey on")
	assert.Contains(t, standing, "Index Cond: ((child_profile_id = $1) AND (id <= $2))")
	assert.Contains(t, standing, "using favorite_genre_pkey on")
	assert.Contains(t, standing, "using favorite_topic_pkey on")
	journal := strings.Join(explainPlan(t, pool, journalSQL, `1, 40000`), "\n")
	assert.Contains(t, journal, "Index Cond: ((child_profile_id = $1) AND (history_id = $2))")
	later := strings.Join(explainPlan(t, pool, laterJournalSQL, `1, 40000`), "\n")
	assert.Contains(t, later, "Index Cond: ((child_profile_id = $1) AND (history_id > $2))")
}
