package doctor

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/appschema"
	"aggregator/internal/postgres"
)

// citus looks whether the workers answer, and whether all is distributed as the service needs it.
func (r *report) citus(ctx context.Context, pool *pgxpool.Pool, names appschema.Names) {
	// its error is also that of the rows
	rows, _ := pool.Query(ctx, `SELECT nodename || ':' || nodeport, success, result FROM run_command_on_workers($1)`,
		`SELECT count(*) FROM pg_prepared_xacts
    WHERE database = current_database() AND prepared < now() - interval '2 minutes'`)
	var worker, result string
	var success bool
	workers := 0
	var down, doubtful []string
	_, err := pgx.ForEachRow(rows, []any{&worker, &success, &result}, func() error {
		workers++
		switch {
		case !success:
			down = append(down, worker+" ("+strings.Join(strings.Fields(result), " ")+")")
		case result != "0":
			doubtful = append(doubtful, worker)
		}
		return nil
	})
	if err != nil {
		r.notSeen("citus", err)
		return
	}
	if len(down) > 0 {
		r.add("citus", Problem, "workers do not answer: "+strings.Join(down, ", ")+
			": nothing is lost, but no checkpoint moves and nothing is trimmed until they do", "start them again")
	}
	if len(doubtful) > 0 {
		r.add("citus", Problem, "transactions are prepared for more than two minutes on "+strings.Join(doubtful, ", "),
			"SELECT recover_prepared_transactions() on the coordinator; see its log")
	}
	problems, err := postgres.Misplaced(ctx, pool, names)
	if err != nil {
		r.notSeen("citus", err)
		return
	}
	for _, problem := range problems {
		first, _, _ := strings.Cut(problem, "\n")
		r.add("citus", Problem, "not as it has to be: "+first,
			"stop all instances, and run aggregator migrate up --distribute")
	}
	if len(down)+len(doubtful)+len(problems) == 0 {
		r.ok("citus", "tables and functions are distributed over %d workers; changes of books are noticed after cache.ttl",
			workers)
	}
}
