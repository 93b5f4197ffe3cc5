package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"aggregator/internal/admin"
	"aggregator/internal/events"
	"aggregator/internal/postgres"
	"aggregator/internal/runs"
	"aggregator/internal/service"
)

// rateOver is how long the command watches the checkpoints to tell a rate.
const rateOver = time.Second

func newStatus(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the lag and the state of each source, and the health of both servers",
		Long: `Shows for each source how many entries wait, how long the oldest has waited, how many are
processed a second, the position of the checkpoint and when it last moved, and what the
service does: from the service itself if it runs here (http.addr), else from the lease. Then it
shows the instances that share the sources, and which ones each has.

Then it shows the open incidents (a server went back in time, or events are missing); sources
that the settings do not name, and what waits in them; the dead letters that are neither
applied nor dropped; and the last run of each kind. Of both servers it shows whether they
answer, their version and their latency.

It only reads, and takes a second to measure the rate. When a server does not answer, it shows
what the other one knows, and exits with 69.

With --watch it repeats until it is stopped; as JSON, it writes a document each time. On a
terminal it draws how WAITING and RATE have changed, the greatest value at full height; the key
q ends it, and space looks at once. Where columns do not fit, CHECKPOINT and KEY go first; -o
wide shows all.`,
		Example: `  aggregator status
  aggregator status --watch
  aggregator status --watch=10s -o json`,
	}
	out := addTableOutput(cmd)
	var every time.Duration
	cmd.Flags().DurationVar(&every, "watch", 0, "look again after this time (2s if none is given), until stopped")
	cmd.Flags().Lookup("watch").NoOptDefVal = "2s"
	cmd.RunE = a.configured(func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("watch") && every <= 0 {
			return usageError("--watch=%s: want a time above 0", every)
		}
		look, err := a.newLook()
		if err != nil {
			return err
		}
		defer look.close()
		defer look.redis.CloseAt(cmd.Context())()
		inJSON := func(report *statusReport) error { return writeJSON(a.stdout, report) }
		switch {
		case every > 0 && out.json():
			return look.watch(cmd.Context(), every, nil, inJSON)
		case every > 0:
			return look.watchText(cmd.Context(), every, out.wide())
		}
		report, err := look.once(cmd.Context())
		if report == nil {
			return err
		}
		if out.json() {
			return errors.Join(err, inJSON(report))
		}
		return errors.Join(err, report.print(a.stdout, picture{Terminal: a.terminal(), wide: out.wide()}))
	})
	return cmd
}

// look is what is needed to look at both servers, again and again.
type look struct {
	*app
	redis   *service.Redis
	sources []*events.Source
	pool    *pgxpool.Pool // nil while PostgreSQL was never reached
}

func (a *app) newLook() (*look, error) {
	server, err := a.NewRedis(2) // it connects when it is asked
	if err != nil {
		return nil, err
	}
	sources, err := a.Sources(server)
	if err != nil {
		_ = server.Client.Close()
		return nil, err
	}
	return &look{app: a, redis: server, sources: sources}, nil
}

func (l *look) close() {
	_ = l.redis.Client.Close()
	if l.pool != nil {
		l.pool.Close()
	}
}

// once looks twice, so that there is a rate. With a report, the error is what is wrong.
func (l *look) once(ctx context.Context) (*statusReport, error) {
	first, err := l.survey(ctx)
	if err != nil {
		return nil, err
	}
	second := first
	if first.Postgres.Err == nil && first.Schema.Err == nil {
		if !sleep(ctx, rateOver) {
			return nil, ctx.Err()
		}
		if second, err = l.survey(ctx); err != nil {
			return nil, err
		}
	}
	report := newStatusReport(second, first, l.ask(ctx), l.Group())
	runsErr := errors.Join(l.addRuns(ctx, report), l.addElsewhere(ctx, report))
	if err := errors.Join(second.Redis.Err, second.Postgres.Err); err != nil {
		return report, err
	}
	return report, errors.Join(second.Schema.Err, second.Err, runsErr)
}

// sleep waits; false says that ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// survey asks both servers. What is wrong with them is in the survey; the error is one of the
// settings.
func (l *look) survey(ctx context.Context) (admin.Survey, error) {
	var postgresErr error
	if l.pool == nil {
		l.pool, postgresErr = postgres.Open(ctx, l.PostgresOptions(2))
		if postgresErr != nil && !errors.Is(postgresErr, postgres.ErrUnreachable) {
			return admin.Survey{}, postgresErr
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s := admin.Look(ctx, l.pool, l.redis.Client, l.sources)
	if postgresErr != nil {
		s.Postgres.Err, s.Schema.Err = postgresErr, errors.New("not known")
	}
	if s.Redis.Err != nil {
		s.Redis.Err = l.redis.Failed(s.Redis.Err)
	}
	return s, nil
}

// addRuns adds the last run of each kind, if PostgreSQL can be asked.
func (l *look) addRuns(ctx context.Context, report *statusReport) error {
	if !report.Schema.OK {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	latest, err := runs.LatestByKind(ctx, l.pool)
	if err != nil {
		return err
	}
	report.Runs = make([]runLine, len(latest))
	for i, r := range latest {
		report.Runs[i] = newRunLine(r)
	}
	return nil
}

// addElsewhere adds the sources that the settings do not name, if both servers can be asked.
func (l *look) addElsewhere(ctx context.Context, report *statusReport) error {
	if !report.Schema.OK || !report.Redis.OK {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	found, err := l.FindElsewhere(ctx, &service.Servers{Pool: l.pool, Redis: l.redis, Sources: l.sources})
	if err == nil {
		report.Elsewhere = newElsewhereLines(found)
	}
	return err
}

// ask asks the service if it runs here; nil if it does not.
func (l *look) ask(ctx context.Context) map[string]admin.SourceState {
	if l.cfg.HTTP.Addr == "" {
		return nil
	}
	secure, err := l.cfg.HTTPClient()
	if err != nil {
		return nil
	}
	states, err := admin.Ask(ctx, l.cfg.HTTP.Addr, secure)
	if err != nil {
		return nil
	}
	return states
}
