package doctor_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// What doctor advises for an index that is missing can be run as it stands, also on tables with partitions, on which
// PostgreSQL builds no index CONCURRENTLY, and mends it.
func TestIndexAdvice(t *testing.T) {
	for name, fault := range map[string]string{
		"a look-up": `ALTER TABLE child_personality_history DROP CONSTRAINT child_personality_history_pkey`,
		"a look-up on partitions": `CREATE TABLE history (LIKE child_personality_history INCLUDING ALL EXCLUDING CONSTRAINTS
			EXCLUDING INDEXES)
			PARTITION BY RANGE (created_at);
			DROP TABLE child_personality_history; ALTER TABLE history RENAME TO child_personality_history;
			CREATE TABLE of_past PARTITION OF child_personality_history FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
			CREATE TABLE of_all PARTITION OF child_personality_history DEFAULT;
			GRANT SELECT, INSERT ON child_personality_history TO aggregator_daemon`,
		"a purge of columns with other names": `DROP INDEX child_personality_history_deleted;
			ALTER TABLE child_personality_history RENAME deleted_at TO "deletedAt"`,
		"a key": `ALTER TABLE genre_score DROP CONSTRAINT genre_score_pkey`,
		"a key on partitions": `CREATE TABLE s (LIKE topic_score) PARTITION BY HASH (child_profile_id);
			DROP TABLE topic_score; ALTER TABLE s RENAME TO topic_score;
			CREATE TABLE s0 PARTITION OF topic_score FOR VALUES WITH (MODULUS 2, REMAINDER 0);
			CREATE TABLE s1 PARTITION OF topic_score FOR VALUES WITH (MODULUS 2, REMAINDER 1);
			GRANT SELECT, INSERT, UPDATE ON topic_score TO aggregator_daemon`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := testenv.Database(t)
			exec(t, u, fault)
			advice := indexAdvice(t, u)
			require.NotEmpty(t, advice)
			for _, line := range advice {
				_, statements, _ := strings.Cut(line, "as the owner: ")
				if statements == "" {
					statements = line
				}
				exec(t, u, strings.Split(statements, "; ")...)
			}
			require.Empty(t, indexAdvice(t, u))
		})
	}
}

// indexAdvice is what doctor says about indexes that are missing.
func indexAdvice(t *testing.T, u string) (advice []string) {
	for _, f := range open(t, u, false) {
		if f.Check == "indexes" && f.Advice != "" {
			advice = append(advice, f.Advice)
		}
	}
	return advice
}
