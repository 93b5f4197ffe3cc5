package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/term"
)

// newLog returns a log that writes to w. The format is that of the settings: auto is text on
// a terminal, fields of the journal if that is where w goes to, and JSON otherwise.
func newLog(w io.Writer, level slog.Leveler, format string) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	inJSON := &slog.HandlerOptions{Level: level, ReplaceAttr: plainInJSON}
	text := slog.NewTextHandler(w, opts)
	switch {
	case format == "text", format == "auto" && isTerminal(w):
		return slog.New(text)
	case format == "journal", format == "auto" && isJournal(w):
		return slog.New(newJournalHandler(level, text))
	}
	return slog.New(slog.NewJSONHandler(w, inJSON))
}

// plainInJSON writes a duration in seconds, with the unit in the name, and what has a text as that:
// a position. JSON would have nanoseconds, and the parts of the position.
func plainInJSON(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.Float64(a.Key+"_seconds", a.Value.Duration().Seconds())
	}
	if text, is := a.Value.Any().(fmt.Stringer); is && a.Value.Kind() == slog.KindAny {
		return slog.String(a.Key, text.String())
	}
	return a
}

// isJournal says whether what is written to w goes to the journal anyway.
func isJournal(w io.Writer) bool {
	is, err := journal.StderrIsJournalStream()
	return w == os.Stderr && is && err == nil
}

// logLevel is the level of a name that the settings allow.
func logLevel(name string) (level slog.Level) {
	if err := level.UnmarshalText([]byte(name)); err != nil {
		return slog.LevelInfo
	}
	return level
}

func isTerminal(w io.Writer) bool {
	f, ok := underlying(w).(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// underlying is what a command really writes to.
func underlying(w io.Writer) io.Writer {
	if out, is := w.(pipe); is {
		return out.Writer
	}
	return w
}

// redisLog takes what the client would print by itself. That repeats what the client also returns as an error.
type redisLog struct{ log *slog.Logger }

func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	l.log.DebugContext(ctx, "redis client: "+fmt.Sprintf(format, args...))
}
