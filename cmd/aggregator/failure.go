package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"aggregator/config"
)

// stopSignal is the signal by which a command was told to stop.
type stopSignal struct{ os.Signal }

func (s stopSignal) Error() string { return "stopped by a signal: " + s.String() }

// stopped reduces an error that a command has because it was told to stop to only that, and returns any other
// as it is.
func stopped(ctx context.Context, err error) error {
	var told stopSignal
	if err != nil && errors.As(context.Cause(ctx), &told) &&
		(errors.Is(err, context.Canceled) || exitCode(err) == exitUnreachable) {
		return told
	}
	return err
}

// resumable is the RunE of a command that the next time goes on where it was stopped: to be told to stop
// is no failure.
func (a *app) resumable(run func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return a.configured(func(cmd *cobra.Command, args []string) error {
		err := stopped(cmd.Context(), run(cmd, args))
		var told stopSignal
		if !errors.As(err, &told) {
			return err
		}
		a.log.Info("stopped; the next run continues from here", "signal", told.String())
		return nil
	})
}

// logsFailure marks a command whose failure is reported in its log, in the form of the log.
var logsFailure = map[string]string{"logs_failure": "true"}

// reportFailure says on stderr why the command has failed, if it has.
func (a *app) reportFailure(cmd *cobra.Command, err error) {
	if err == nil || errors.Is(err, errReaderGone) {
		return
	}
	prefix := "aggregator: "
	if isJournal(a.stderr) {
		prefix = "<3>" + prefix // the journal takes the line for an error: sd-daemon(3)
	}
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimRight(line, "\n")
		if cmd.Annotations["logs_failure"] == "" || errors.Is(err, errUsage) {
			fmt.Fprintf(a.stderr, "%s%s\n", prefix, line)
			continue
		}
		if a.log == nil { // the settings are wrong, but the form of the log may be right
			a.log = newLog(a.stderr, &a.level, config.LogFormat(cmd.Flags()))
		}
		level, what := slog.LevelError, " failed"
		if exitCode(err) == exitEventsLeft {
			level, what = slog.LevelWarn, " ended early"
		}
		a.log.Log(cmd.Context(), level, cmd.Name()+what, "error", line, "exit_code", exitCode(err))
	}
}

// errReaderGone says that the reader of what a command writes is gone, as in a pipe to head: the command may
// end, and there is nothing to say about it.
var errReaderGone = errors.New("the reader of the output is gone")

// pipe is stdout. Its errors have errReaderGone when its reader has gone.
type pipe struct{ io.Writer }

func (p pipe) Write(b []byte) (int, error) {
	n, err := p.Writer.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		err = tag(errReaderGone, err)
	}
	return n, err
}
