package apply

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"

	"aggregator/internal/verdict"
)

// A streak blames the deployment for ten refusals alike in a row, or for all of two to nine.
func TestStreak(t *testing.T) {
	same := func(n int) (all []string) {
		for range n {
			all = append(all, "a")
		}
		return all
	}
	with := func(first []string, more ...string) []string { return append(first, more...) }
	for name, c := range map[string]struct {
		profiles []string // the constraint that refuses each, empty if none does
		broken   bool     // as soon as the last one was refused
		wrong    bool     // when all were tried
	}{
		"nothing":                              {},
		"one":                                  {profiles: same(1)},
		"two":                                  {profiles: same(2), wrong: true},
		"nine":                                 {profiles: same(9), wrong: true},
		"nine, and one that is applied":        {profiles: with(same(9), "")},
		"one that is applied, and nine":        {profiles: with([]string{""}, same(9)...)},
		"one that is applied, and ten":         {profiles: with([]string{""}, same(10)...), broken: true, wrong: true},
		"ten":                                  {profiles: same(10), broken: true, wrong: true},
		"nine, and another reason":             {profiles: with(same(9), "b")},
		"another reason, and nine":             {profiles: with([]string{"b"}, same(9)...)},
		"nine, one that is applied, and nine":  {profiles: with(with(same(9), ""), same(9)...)},
		"two reasons":                          {profiles: []string{"a", "b"}},
		"a reason, another, and the first one": {profiles: []string{"a", "b", "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			var s streak
			for _, constraint := range c.profiles {
				if constraint == "" {
					s.applied(1)
				} else {
					s.refused(&pgconn.PgError{Code: "23514", ConstraintName: constraint})
				}
			}
			assert.Equal(t, c.broken, s.broken() != nil)
			err := s.verdict()
			assert.Equal(t, c.wrong, err != nil)
			if err != nil {
				assert.Equal(t, verdict.Halt, verdict.Of(err))
				assert.ErrorContains(t, err, "constraint a")
			}
		})
	}
}
