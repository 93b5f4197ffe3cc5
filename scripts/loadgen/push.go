package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"aggregator/scripts/loadgen/journal"
	"aggregator/scripts/loadgen/push"
	"aggregator/scripts/loadgen/workload"
)

func pushCommand(g *global) *cobra.Command {
	settings, p := workload.Defaults(), newPusher(g)
	command := &cobra.Command{
		Use:   "push",
		Short: "Push made-up likes and dislikes into Redis",
		Long: `Push likes and dislikes into Redis: --count of them as fast as possible, or --rate a
second for --duration, on a schedule that does not wait for Redis (an open loop).
Event i depends on i and the flags that describe the workload alone, so that
"loadgen verify" with the same flags knows what must come of it.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := p.size(&settings); err != nil {
				return err
			}
			return p.push(command.Context(), settings)
		},
	}
	flags := command.Flags()
	keyFlags(flags, &settings)
	workloadFlags(flags, &settings)
	flags.Uint64Var(&settings.Seed, "seed", settings.Seed, "seed of all that is chosen at random")
	p.paceFlags(flags)
	p.flags(flags)
	return command
}

// keyFlags say where events go and in which form.
func keyFlags(flags *pflag.FlagSet, s *workload.Settings) {
	flags.StringVar(&s.Kind, "kind", s.Kind, "what to push to: stream or list")
	flags.StringVar(&s.Key, "key", s.Key, "its key (default: book-like-events or BookLikeEventList)")
	flags.StringVar(&s.PushSide, "push-side", s.PushSide, "end of a list to push to: left or right")
	flags.StringVar(&s.Wire, "wire", s.Wire, "form of a stream entry: event (one field) or fields (three)")
	flags.IntVar(&s.Partitions, "partitions", s.Partitions, "number of keys")
}

// workloadFlags say what made-up events are like.
func workloadFlags(flags *pflag.FlagSet, s *workload.Settings) {
	flags.Int64Var(&s.Count, "count", s.Count, "events")
	flags.Int64Var(&s.Profiles, "profiles", s.Profiles, "choose among the profiles from 1 to this")
	flags.Int64Var(&s.Books, "books", s.Books, "choose among the books from 1 to this")
	flags.StringVar(&s.ProfileDist, "profile-dist", s.ProfileDist, "how profiles are chosen: uniform or zipf")
	flags.StringVar(&s.BookDist, "book-dist", s.BookDist, "how books are chosen: uniform or zipf")
	flags.Float64Var(&s.Theta, "theta", s.Theta, "skew of zipf, between 0 and 1")
	flags.Float64Var(&s.LikeRatio, "like-ratio", s.LikeRatio, "share of likes")
	flags.Float64Var(&s.Malformed, "malformed", s.Malformed, "share of junk, of every kind")
	flags.IntVar(&s.JunkSize, "junk-size", s.JunkSize, "have pieces of this many bytes among the junk")
	flags.Float64Var(&s.Unknown, "unknown", s.Unknown, "share of unknown profiles or books")
	flags.Float64Var(&s.Duplicates, "duplicates", s.Duplicates, "share that repeats the event before")
}

// pusher has the flags that say how to push.
type pusher struct {
	*global
	push.Options
	duration, timeout time.Duration
	ackedFile         string
	quiet             bool
}

func newPusher(g *global) *pusher {
	return &pusher{
		global: g, Options: push.Options{Clients: 2, Pipeline: 1000, LateAfter: 10 * time.Millisecond},
		timeout: 5 * time.Second,
	}
}

func (p *pusher) paceFlags(flags *pflag.FlagSet) {
	flags.DurationVar(&p.duration, "duration", 0, "push --rate events a second for this long")
}

func (p *pusher) flags(flags *pflag.FlagSet) {
	flags.Float64Var(&p.Rate, "rate", 0, "events a second (default: as fast as possible)")
	flags.DurationVar(&p.LateAfter, "late-after", p.LateAfter,
		"count a send as late when it begins this much after its time")
	flags.IntVar(&p.Clients, "clients", p.Clients, "connections")
	flags.IntVar(&p.Pipeline, "pipeline", p.Pipeline, "most events in flight on a connection")
	flags.DurationVar(&p.timeout, "timeout", p.timeout, "how long to wait for an answer of Redis")
	flags.BoolVar(&p.ContinueOnError, "continue-on-error", false,
		"go on through outages of Redis; an event of unknown outcome is not sent again")
	flags.StringVar(&p.ackedFile, "acked-file", "", "append to this file which events were acknowledged, for verify")
	flags.BoolVar(&p.quiet, "quiet", false, "no progress")
}

// size finds the number of events from rate and duration.
func (p *pusher) size(s *workload.Settings) error {
	switch {
	case p.duration == 0 && s.Count == 0:
		return usage("how many events? use --count, or --rate and --duration")
	case p.duration == 0:
		return nil
	case s.Count != 0 || p.Rate <= 0 || p.duration < 0:
		return usage("--duration goes with a positive --rate and without --count")
	}
	s.Count = countOf(p.Rate, p.duration)
	return nil
}

// countOf is the number of events that fall into the duration; at least one.
func countOf(rate float64, duration time.Duration) int64 {
	return max(int64(math.Round(rate*duration.Seconds())), 1)
}

func (p *pusher) push(ctx context.Context, settings workload.Settings) (err error) {
	if p.Clients < 1 || p.Pipeline < 1 || p.Rate < 0 || math.IsNaN(p.Rate) || p.timeout <= 0 {
		return usage("clients, pipeline and timeout must be positive, and the rate not negative")
	}
	events, err := workload.Open(settings)
	if err != nil {
		return usageError{err}
	}
	db, err := p.openRedis(ctx, p.Clients, p.timeout)
	if err != nil {
		return err
	}
	defer db.Close()
	if p.ackedFile != "" {
		settings.Count = events.Len()
		if p.Journal, err = journal.Append(p.ackedFile, settings); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.Journal.Close()) }()
	}
	report, pushErr := push.Push(ctx, db, settings, events, p.Options, p.progress(events.Len()))
	err = p.print(report, func(out io.Writer) { writePushed(out, report) })
	if pushErr != nil {
		pushErr = fmt.Errorf("%d of %d events were not pushed: %w", report.NotPushed+report.Unknown, report.Events, pushErr)
		if report.Unknown > 0 {
			pushErr = fmt.Errorf("%w (%d of these have an unknown outcome)", pushErr, report.Unknown)
		}
	}
	return errors.Join(pushErr, err)
}

func (p *pusher) progress(events int64) func(push.Tally) {
	if p.quiet {
		return nil
	}
	return func(t push.Tally) {
		p.log("%4.0fs  %d of %d acknowledged, %d of unknown outcome", t.Elapsed.Seconds(), t.Acknowledged, events, t.Unknown)
	}
}

func writePushed(out io.Writer, r push.Report) {
	fmt.Fprintf(out, "acknowledged     %d of %d events in %.2f s\n", r.Acknowledged, r.Events, r.Seconds)
	fmt.Fprintf(out, "unknown outcome  %d\n", r.Unknown)
	fmt.Fprintf(out, "not pushed       %d\n", r.NotPushed)
	if r.OfferedRate > 0 {
		fmt.Fprintf(out, "offered          %.0f/s\n", r.OfferedRate)
	}
	fmt.Fprintf(out, "achieved         %.0f/s\n", r.AchievedRate)
	if r.OfferedRate > 0 {
		fmt.Fprintf(out, "late             %d\n", r.Late)
	}
	l := r.Latency
	fmt.Fprintf(out, "latency          p50 %.3f  p90 %.3f  p95 %.3f  p99 %.3f  p99.9 %.3f  max %.3f ms\n", l.P50, l.P90,
		l.P95, l.P99, l.P999, l.Max)
	if r.SurvivedOutage != "" {
		fmt.Fprintf(out, "outage           %s\n", r.SurvivedOutage)
	}
}
