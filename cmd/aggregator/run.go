package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"aggregator/internal/aggregator"
)

func newRun(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Drain for ever: the service",
		Long: `Drains events as they come, until it is told to stop. SIGTERM or SIGINT ends the reading,
lets the chunk in hand be finished within shutdown.grace, and exits with 0; a second one
ends the process at once. Both are safe: what was not finished is read again. Outages of
either server are waited out.

Now and then it applies the dead letters of the last while (dead.retry_unknown_for) whose
profile and book are there by now. When most events cannot be applied (dead.max_share) it
ends with an error and leaves them in Redis.

At http.addr it answers /healthz, /readyz, /version and /metrics. An address that is taken is
an error, but for the default one: then a second instance on a machine goes without.`,
		Example: `  aggregator run
  AGGREGATOR_SOURCE_KIND=list aggregator run --log-level debug`,
		RunE: a.configured(func(cmd *cobra.Command, _ []string) error {
			listener, listening, err := a.listen(cmd.Context())
			if err != nil {
				return err
			}
			engine, err := a.openEngine(cmd.Context())
			if err != nil && cmd.Context().Err() != nil {
				return nil // told to stop before it began
			}
			if err != nil {
				return err
			}
			defer engine.close()
			if listening {
				stop, err := a.serveAdmin(cmd.Context(), listener, engine)
				if err != nil {
					return err
				}
				defer stop()
			}
			a.log.Info("draining", "kind", a.cfg.Source.Kind, "key", a.cfg.Source.Key, "partitions", a.cfg.Source.Partitions)
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			go a.logProgress(ctx, engine.Stats)
			err = engine.Run(cmd.Context())
			s := engine.Stats()
			a.log.Info("stopped", "read", s.Read, "applied", s.Applied, "dead", s.Dead, "retried", s.Retried, "settled_before", s.Skipped)
			return err
		}),
	}
}

// logProgress writes a line every ten seconds in which something was settled.
func (a *app) logProgress(ctx context.Context, stats func() aggregator.Stats) {
	const every = 10 * time.Second
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	before := stats()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := stats()
		if now.Read != before.Read {
			a.log.Info("settled", "read", now.Read-before.Read, "applied", now.Applied-before.Applied, "dead", now.Dead-before.Dead,
				"settled_before", now.Skipped-before.Skipped, "chunks", now.Chunks-before.Chunks, "profiles", now.Profiles-before.Profiles)
		}
		before = now
	}
}
