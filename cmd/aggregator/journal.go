package main

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/journal"
)

// journalHandler writes to systemd's journal. MESSAGE is the line as the text form would
// have it, less what the journal knows itself; each attribute is a field besides:
// source=a is AGGREGATOR_SOURCE=a. What the journal does not take goes to the fallback.
type journalHandler struct {
	level    slog.Leveler
	fallback slog.Handler
	send     func(message string, priority journal.Priority, fields map[string]string) error

	text   slog.Handler // writes the attributes to line
	line   *lockedLine
	fields map[string]string // of the attributes that every record has
	group  string            // as a prefix of a field's name
}

type lockedLine struct {
	sync.Mutex
	bytes.Buffer
}

func newJournalHandler(level slog.Leveler, fallback slog.Handler) *journalHandler {
	line := &lockedLine{}
	text := slog.NewTextHandler(line, &slog.HandlerOptions{
		Level: slog.Level(-100), // the level is not for this handler to judge
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
				return slog.Attr{}
			}
			return a
		},
	})
	return &journalHandler{
		level: level, fallback: fallback, send: journal.Send, text: text, line: line,
		fields: map[string]string{},
	}
}

// Enabled is of slog.Handler, as are the others.
func (h *journalHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

// Handle sends the record.
func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	fields := map[string]string{"SYSLOG_IDENTIFIER": "aggregator"}
	for name, value := range h.fields {
		fields[name] = value
	}
	r.Attrs(func(a slog.Attr) bool {
		addField(fields, h.group, a)
		return true
	})
	message := r.Message
	if attributes := h.attributes(ctx, r); attributes != "" {
		message += " " + attributes
	}
	if h.send(message, priority(r.Level), fields) != nil {
		return h.fallback.Handle(ctx, r)
	}
	return nil
}

func (h *journalHandler) attributes(ctx context.Context, r slog.Record) string {
	h.line.Lock()
	defer h.line.Unlock()
	h.line.Reset()
	_ = h.text.Handle(ctx, r) // a buffer takes all
	return strings.TrimSpace(h.line.String())
}

// WithAttrs adds attributes to every record.
func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.text, with.fallback = h.text.WithAttrs(attrs), h.fallback.WithAttrs(attrs)
	with.fields = map[string]string{}
	for name, value := range h.fields {
		with.fields[name] = value
	}
	for _, a := range attrs {
		addField(with.fields, h.group, a)
	}
	return &with
}

// WithGroup puts the attributes to come under a name.
func (h *journalHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	with := *h
	with.text, with.fallback = h.text.WithGroup(name), h.fallback.WithGroup(name)
	with.group = h.group + name + "_"
	return &with
}

func addField(fields map[string]string, group string, a slog.Attr) {
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "_"
		}
		for _, member := range value.Group() {
			addField(fields, group, member)
		}
		return
	}
	if a.Key != "" {
		fields["AGGREGATOR_"+fieldName(group+a.Key)] = value.String()
	}
}

// fieldName is a name that the journal accepts: it drops a field with any other.
func fieldName(key string) string {
	return strings.Map(func(r rune) rune {
		if (r >= 'A' && r <= 'Z') || (r >= '0' && r <= '9') {
			return r
		}
		return '_'
	}, strings.ToUpper(key))
}

func priority(level slog.Level) journal.Priority {
	switch {
	case level >= slog.LevelError:
		return journal.PriErr
	case level >= slog.LevelWarn:
		return journal.PriWarning
	case level >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}
