package apply

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestGrouping(t *testing.T) {
	for _, c := range []struct {
		name                   string
		together, workers, due int
		want                   grouping
	}{
		{"a transaction a profile", 1, 4, 1000, grouping{longCall, false}},
		{"shorter calls, so that all connections have some", 1, 4, 240, grouping{30, false}},
		{"but not too short", 1, 4, 10, grouping{shortCall, false}},
		{"as the options say", 7, 4, 10_000, grouping{7, true}},
		{"as the options say, in a small chunk", 7, 4, 3, grouping{7, true}},
		{"auto: a quiet source", Auto, 4, busyChunk - 1, grouping{shortCall, false}},
		{"auto: a busy source", Auto, 4, busyChunk, grouping{25, true}},
		{"auto: nobody is left over", Auto, 4, 101, grouping{26, true}},
		{"auto: a backlog", Auto, 2, 100_000, grouping{50, true}},
		{"auto: one connection", Auto, 1, busyChunk, grouping{50, true}},
		{"auto: many connections", Auto, 64, 200, grouping{4, true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := Applier{Options: Options{ProfilesPerTransaction: c.together, Workers: c.workers}}
			assert.Equal(t, c.want, a.grouping(c.due))
		})
	}
}
