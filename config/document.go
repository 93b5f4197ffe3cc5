package config

import (
	"fmt"
	"strings"
)

// Sample returns the contents of aggregator.yaml: every setting with its default and what
// it means, commented out.
func Sample() string {
	var b strings.Builder
	b.WriteString(`# Settings of the aggregator. Everything below is the default, or an example where there is
# none: take away the # before a setting to change it. A flag or an AGGREGATOR_* variable
# wins over this file.
`)
	section := ""
	for _, s := range settings {
		head, name, _ := strings.Cut(s.Key, ".")
		if head != section {
			section = head
			fmt.Fprintf(&b, "\n%s:\n", section)
		} else {
			b.WriteString("\n")
		}
		writeWrapped(&b, "  # ", s.Doc)
		fmt.Fprintf(&b, "  # Allowed: %s. Variable: %s.%s\n", s.value(new(Config)).Allowed(), s.variables(), restartNote(s))
		if s.Key == "events.weights" {
			fmt.Fprintf(&b, "  # %s:\n", name)
			for item := range strings.SplitSeq(s.Default, ",") {
				fmt.Fprintf(&b, "  #   %s\n", strings.Replace(item, "=", ": ", 1))
			}
			continue
		}
		fmt.Fprintf(&b, "  # %s: %s\n", name, s.sample())
	}
	return b.String()
}

// SettingsTable returns the settings as a table in Markdown, for docs/settings.md.
func SettingsTable() string {
	var b strings.Builder
	b.WriteString("| Setting | Variable | Default | Allowed | What it does |\n|---|---|---|---|---|\n")
	for _, s := range settings {
		def := "`" + s.Default + "`"
		if s.Default == "" {
			def = "see text"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n",
			s.Key, s.variables(), def, s.value(new(Config)).Allowed(), s.Doc)
	}
	return b.String()
}

func restartNote(s setting) string {
	if s.fixed() {
		return " A change needs a restart."
	}
	return ""
}

func (s setting) variables() string {
	if s.Fallback == "" {
		return s.Env()
	}
	return s.Env() + ", else " + s.Fallback
}

func (s setting) sample() string {
	if s.Example != "" {
		return s.Example
	}
	return s.Default
}

func firstSentence(doc string) string {
	sentence, _, _ := strings.Cut(doc, ". ")
	return strings.TrimSuffix(sentence, ".")
}

func defaultNote(s setting) string {
	if s.Default == "" {
		return ""
	}
	return " (default " + s.Default + ")"
}

// kindOf is the word for a value in the help: --chunk-max-wait duration.
func kindOf(v value) string {
	switch v := v.(type) {
	case choice:
		return strings.Join(v.of, "|")
	case preference:
		return strings.ReplaceAll(v.Allowed(), ", ", "|")
	case boolean:
		return "true|false"
	case integer, share:
		return "number"
	case groupSize:
		return "number|auto"
	case duration:
		return "duration"
	case listenAddr:
		return "host:port"
	case weights:
		return "ACTION=number"
	case cronExpression:
		return "cron"
	}
	return "text"
}

func writeWrapped(b *strings.Builder, indent, text string) {
	line := indent
	for word := range strings.FieldsSeq(text) {
		if len(line)+len(word) > 92 && line != indent {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = indent
		}
		line += word + " "
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}
