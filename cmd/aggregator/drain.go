package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aggregator/internal/admin"
	"aggregator/internal/aggregator"
	"aggregator/internal/runs"
	"aggregator/internal/service"
	"aggregator/internal/terminal"
)

func newDrain(a *app) *cobra.Command {
	var limits aggregator.Limits
	var dryRun bool
	var textfile string
	var ended admin.Drained
	cmd := &cobra.Command{
		Use:         "drain",
		Annotations: logsFailure,
		Short:       "Drain the events that are there, report, and exit",
		Long: `Drains events until none are left, or a limit is reached, and reports what became of them.
It may be stopped and repeated at any time, also with kill -9: each event counts once. If a
limit is reached and events are left, it exits with 75. With --dry-run it prints what it would
add to each profile, and writes nothing to either server.

For each source the report says how long each phase took, and how long a transaction. Reading
goes on beside the other phases.

At its end it retries the recent dead letters (dead.retry_unknown_for) whose profile and book
exist now. When most events cannot be applied (dead.max_share), it stops with an error and
leaves them in Redis.

With --metrics-textfile it writes its outcome at its end, also after an error, to a file for
the textfile collector of Prometheus' node_exporter.`,
		Example: `  aggregator drain
  aggregator drain --max-duration 10m -o json
  aggregator drain --dry-run --max-events 1000
  aggregator drain --metrics-textfile /var/lib/prometheus/node-exporter/aggregator.prom`,
	}
	cmd.Flags().Int64Var(&limits.MaxEvents, "max-events", 0, "stop after this many events; 0: no limit")
	cmd.Flags().DurationVar(&limits.MaxDuration, "max-duration", 0,
		"stop after this time, when the chunk in flight is finished; 0: no limit")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the sums of each profile and write nothing")
	cmd.Flags().StringVar(&textfile, "metrics-textfile", "",
		"write metrics of this drain, at its end, to a `file` whose name ends in .prom")
	out := addOutput(cmd)
	cmd.RunE = leavingMetrics(&textfile, &ended, a.resumable(func(cmd *cobra.Command, _ []string) error {
		if dryRun && textfile != "" {
			return usageError("--metrics-textfile: not with --dry-run")
		}
		if limits.MaxEvents < 0 {
			return usageError("--max-events = %d: want 0 or more", limits.MaxEvents)
		}
		if err := notBelow0("max-duration", limits.MaxDuration); err != nil {
			return err
		}
		engine, err := a.OpenEngine(cmd.Context(), nil)
		if err != nil {
			return err
		}
		defer engine.Close()
		defer func() { ended.Stats = engine.Stats() }()
		if dryRun {
			return a.preview(cmd.Context(), engine, limits.MaxEvents, out)
		}
		waiting, err := engine.WaitingEverywhere(cmd.Context())
		if err != nil {
			return err
		}
		if limits.MaxEvents > 0 {
			waiting = min(waiting, limits.MaxEvents)
		}
		progress := a.showProgress("draining", "events", waiting, func() int64 {
			s := engine.Stats()
			return s.Read + s.InFlight
		}, out.json())
		began := time.Now()
		left, err := a.drain(cmd.Context(), engine, limits)
		progress.end()
		if err != nil {
			return err
		}
		ended.Left = &left
		report := newDrainReport(engine.Stats(), left, time.Since(began))
		open, trouble := engine.LookBack(cmd.Context())
		report.Sources, report.Incidents = newSourceTimes(engine.Timelines(), began), newIncidentLines(open)
		if out.json() {
			err = writeJSON(a.stdout, report)
		} else {
			err = report.print(a.stdout)
		}
		if trouble != nil {
			return errors.Join(err, trouble)
		}
		if left > 0 && cmd.Context().Err() == nil { // a signal is no limit
			err = errors.Join(tag(errEventsLeft, fmt.Errorf("stopped with %s left", terminal.Count(left, "event"))), err)
		}
		return err
	}))
	return cmd
}

// drain drains, with a record of it.
func (a *app) drain(ctx context.Context, engine *service.Engine, limits aggregator.Limits) (left int64, err error) {
	job := runs.Job{Kind: runs.KindDrain, Counts: func() runs.Counts { return engine.Stats().Counts }}
	err = a.Recorder(engine.Pool).Record(ctx, job, func() (outcome runs.Outcome, err error) {
		left, err = engine.Drain(ctx, limits)
		return runs.OutcomeOf(ctx, left > 0), err
	})
	return left, err
}

// drainReport is the outcome of a drain. Its names are those of the JSON form.
type drainReport struct {
	aggregator.Stats
	Left            int64   `json:"left"`
	ElapsedSeconds  float64 `json:"elapsed_seconds"`
	EventsPerSecond float64 `json:"events_per_second"`

	Sources   []sourceTimes  `json:"sources"`   // that had something to drain
	Incidents []incidentLine `json:"incidents"` // of its sources, that are not accepted
}

// sourceTimes says what the time of a source was spent on.
type sourceTimes struct {
	Source       string      `json:"source"`
	Chunks       int64       `json:"chunks"`
	Transactions int64       `json:"transactions"` // of a profile, or of a group of them
	P50          float64     `json:"transaction_p50_seconds"`
	P95          float64     `json:"transaction_p95_seconds"`
	Phases       []phaseTime `json:"phases"`
}

// phaseTime is how long a phase took, and between which moments of the drain.
type phaseTime struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	From    float64 `json:"from_seconds"`
	To      float64 `json:"to_seconds"`
}

var phaseNames = map[aggregator.Phase]string{
	aggregator.PhaseRead: "read", aggregator.PhaseLookUp: "look_up", aggregator.PhaseApply: "apply",
	aggregator.PhaseCheckpoint: "checkpoint", aggregator.PhaseTrim: "trim",
}

func newSourceTimes(all []aggregator.Timeline, began time.Time) []sourceTimes {
	list := []sourceTimes{}
	for _, t := range all {
		if t.Chunks == 0 {
			continue
		}
		s := sourceTimes{
			Source: t.Source, Chunks: t.Chunks, Transactions: t.Transactions, P50: t.P50.Seconds(), P95: t.P95.Seconds(),
		}
		for phase, span := range t.Phases {
			if span.From.IsZero() {
				continue
			}
			s.Phases = append(s.Phases, phaseTime{
				Name: phaseNames[aggregator.Phase(phase)], Seconds: span.Took.Seconds(),
				From: span.From.Sub(began).Seconds(), To: span.To.Sub(began).Seconds(),
			})
		}
		list = append(list, s)
	}
	return list
}

func (s sourceTimes) print(w io.Writer) error {
	var phases []string
	for _, p := range s.Phases {
		phases = append(phases, fmt.Sprintf("%s %.3f", strings.ReplaceAll(p.Name, "_", " "), p.Seconds))
	}
	_, err := fmt.Fprintf(w, `time of source %s, in seconds:
  %s
  %s: p50 %.2f ms, p95 %.2f ms
`, s.Source, strings.Join(phases, ", "), terminal.Count(s.Transactions, "transaction"), 1000*s.P50, 1000*s.P95)
	return err
}

func newDrainReport(s aggregator.Stats, left int64, took time.Duration) drainReport {
	return drainReport{
		Stats: s, Left: left, ElapsedSeconds: took.Seconds(), EventsPerSecond: float64(s.Read) / took.Seconds(),
	}
}

func (r drainReport) print(w io.Writer) error {
	if r.Read+r.Retried+r.Left == 0 {
		_, err := fmt.Fprintln(w, "nothing to drain")
		r.printIncidents(w)
		return err
	}
	took := time.Duration(r.ElapsedSeconds * float64(time.Second))
	_, err := fmt.Fprintf(w, `drained %s in %s, %s a second
  applied          %12s
  dead letters     %12s
  retried          %12s
  processed before %12s
  left             %12s
  profile updates  %12s in %s
`, terminal.Count(r.Read, "event"), took.Round(time.Millisecond), grouped(int64(r.EventsPerSecond)), grouped(r.Applied),
		grouped(r.Dead),
		grouped(r.Retried), grouped(r.Skipped), grouped(r.Left), grouped(r.Profiles),
		terminal.Count(r.Chunks, "chunk"))
	if r.Applied == 0 && r.Dead > 0 {
		fmt.Fprintln(w, "no event could be applied: aggregator dead list shows why")
	}
	for _, source := range r.Sources {
		if err := source.print(w); err != nil {
			return err
		}
	}
	r.printIncidents(w)
	return err
}

func (r drainReport) printIncidents(w io.Writer) {
	for _, one := range r.Incidents {
		fmt.Fprintln(w, one)
	}
}
