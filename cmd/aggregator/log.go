package main

import (
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
	text := slog.NewTextHandler(w, opts)
	switch {
	case format == "text", format == "auto" && isTerminal(w):
		return slog.New(text)
	case format == "journal", format == "auto" && isJournal(w):
		return slog.New(newJournalHandler(level, text))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}

// isJournal says whether what is written to w ends up in the journal anyway.
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
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
