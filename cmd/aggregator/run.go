package main

import "github.com/spf13/cobra"

func newRun(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Drain for ever, or by schedule: the service",
		Long: `Drains events as they come, until it is told to stop. SIGTERM or SIGINT ends the reading,
lets the chunk in hand be finished within shutdown.grace, and exits with 0; a second one
ends the process at once. Both are safe: what was not finished is read again. Outages of
either server are waited out.

With schedule.drain set, a cron expression, it drains at these times and rests in between; a
drain that was missed while it was down is caught up, once, when it starts. Of several
instances one drains; another does it in its place if that one dies.

Now and then it applies the dead letters of the last while (dead.retry_unknown_for) whose
profile and book are there by now. When most events cannot be applied (dead.max_share) it
ends with an error and leaves them in Redis.

SIGHUP makes it read the settings again. It says in the log which ones it has applied, after
the chunk in hand, and which ones need a restart: those of the servers, the source, the
listener and the form of the log, and apply.workers. Wrong ones change nothing.

Started by systemd it tells it when it is ready, what it is doing, and that it lives: as long
as each loop turns, also when it waits for events or for a server to come back.

At http.addr it answers /healthz, /readyz, /version and /metrics, and with http.pprof, to this
machine alone, /debug/pprof/. An address that is taken is
an error if it was set; if not, a second instance on a machine goes without.`,
		Example: `  aggregator run
  AGGREGATOR_SOURCE_KIND=list aggregator run --log-level debug
  aggregator run --schedule-drain "30 2 * * *" --schedule-time-zone Europe/Berlin`,
		Annotations: logsFailure,
		RunE: a.resumable(func(cmd *cobra.Command, _ []string) error {
			s := a.newService(cmd.Flags())
			listener, listening, err := a.listen(cmd.Context())
			if err != nil {
				return err
			}
			engine, err := a.openEngine(cmd.Context(), s.meter.Observe)
			if err != nil {
				return err
			}
			defer engine.close()
			s.engine.Store(engine)
			if listening {
				stop, err := s.serveAdmin(cmd.Context(), listener)
				if err != nil {
					return err
				}
				defer stop()
			}
			return s.run(cmd.Context())
		}),
	}
}
