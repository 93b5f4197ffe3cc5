package apply

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// streak tells refusals for data from those for a misconfiguration. What PostgreSQL refuses for the data
// affects some profiles and not others. A constraint that no row meets, a trigger that always fails, or a
// table without a partition for today affects one profile after the other, for the same reason. streak counts
// the profiles of an attempt, in the order in which they are processed, and only those with something to add.
// It knows neither PostgreSQL nor the clock.
type streak struct {
	tried  int    // profiles
	length int    // how many of the latest profiles were refused for one reason
	reason reason // of the latest refusal
	latest *pgconn.PgError
}

// inARow is how many profiles in a row have to be refused for one reason. If an attempt has tried fewer, but
// at least two, all of them have to be.
const inARow = 10

// reason is what two refusals of the same kind have in common.
type reason struct{ code, schema, table, column, constraint string }

func (s *streak) applied(profiles int) {
	if profiles == 0 {
		return
	}
	s.tried += profiles
	s.length, s.reason = 0, reason{}
}

func (s *streak) refused(why *pgconn.PgError) {
	is := reason{why.Code, why.SchemaName, why.TableName, why.ColumnName, why.ConstraintName}
	if is != s.reason {
		s.length, s.reason = 0, is
	}
	s.tried++
	s.length++
	s.latest = why
}

// broken returns an error as soon as so many profiles in a row were refused.
func (s *streak) broken() error {
	if s.length < inARow {
		return nil
	}
	return &refusedAlike{s.latest, s.length}
}

// verdict returns an error if there is a misconfiguration, judged by all that the attempt has tried so far.
func (s *streak) verdict() error {
	if s.length == s.tried && s.tried > 1 {
		return &refusedAlike{s.latest, s.length}
	}
	return s.broken()
}

// refusedAlike is the error with which a streak ends a source.
type refusedAlike struct {
	why      *pgconn.PgError
	profiles int
}

func (e *refusedAlike) Misconfigured() {}

func (e *refusedAlike) Error() string {
	return fmt.Sprintf("PostgreSQL refused %d profiles in a row for the same reason: %s: "+
		"that is a misconfiguration, not bad data; no dead letter was written and nothing trimmed", e.profiles,
		describe(e.why))
}

// describe tells a refusal in one line, with what it is about.
func describe(e *pgconn.PgError) string {
	text := e.Message + " (SQLSTATE " + e.Code
	for _, about := range [][2]string{
		{"schema", e.SchemaName}, {"table", e.TableName}, {"column", e.ColumnName}, {"constraint", e.ConstraintName},
	} {
		if about[1] != "" {
			text += ", " + about[0] + " " + about[1]
		}
	}
	return strings.Join(strings.Fields(text+")"), " ")
}
