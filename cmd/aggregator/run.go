package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"aggregator/config"
	"aggregator/internal/service"
)

func newRun(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Drain continuously, or by schedule: the service",
		Long: `Drains events as they come, until a signal stops it. On SIGTERM or SIGINT it stops reading,
finishes the chunk in flight within shutdown.grace, and exits with 0; a second signal ends the
process at once. Both are safe: what was not finished is read again. During an outage of
either server it waits and retries.

With schedule.drain set, a cron expression, it drains at these times and is idle in between. A
drain that was missed while it was down is done once when it starts. Of several instances one
drains; another takes over if that one dies.

Without a schedule, several instances share the sources (lease.ttl): a source is one stream, or
one partition. Each takes its part; when one joins, leaves or dies, the others hand over to it,
or take over from it. See: aggregator members.

From time to time it retries the recent dead letters (dead.retry_unknown_for) whose profile
and book exist now. When most events cannot be applied (dead.max_share), it ends with an error
and leaves them in Redis. With run.on_halt: stay it answers at http.addr instead, and says why
there, until a reload; a signal then ends it with exit code 1.

On SIGHUP it reads the settings again. It logs which ones it has applied, after the chunk in
flight, and which ones need a restart: those of the servers, the source, the leases, the
listener and the form of the log, and apply.workers. Invalid settings change nothing.

Started by systemd, it notifies systemd when it is ready, what it is doing, and that it is
alive: as long as each loop turns, also when it waits for events or for a server to come back.

At http.addr it answers /healthz, /readyz, /version and /metrics, and with http.pprof, to this
machine alone, /debug/pprof/. These need no login; the page at / does, but for programs on this
machine that only read (http.users_file, http.tokens_file, http.trusted_header). With
http.tls_cert_file it speaks TLS. If the address is taken, that is an error if http.addr was
set; if not, a second instance on the machine runs without.`,
		Example: `  aggregator run
  AGGREGATOR_SOURCE_KIND=list aggregator run --log-level debug
  aggregator run --schedule-drain "30 2 * * *" --schedule-time-zone Europe/Berlin`,
		Annotations: logsFailure,
		RunE: a.resumable(func(cmd *cobra.Command, _ []string) error {
			hangups := make(chan os.Signal, 1) // from now on: it would end the process before
			signal.Notify(hangups, syscall.SIGHUP)
			s, err := service.Open(cmd.Context(), a.Instance, service.Options{
				Next:  func() (config.Config, error) { return config.Load(cmd.Flags()) },
				Level: &a.level,
			})
			if err != nil {
				return err
			}
			defer s.Close()
			go func() {
				for range hangups {
					s.Reload()
				}
			}()
			return s.Run(cmd.Context())
		}),
	}
}
