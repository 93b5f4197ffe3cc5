package config

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Print writes the settings as YAML that Load would take, but for the passwords, which are
// masked. A URL that a setting with _file names is a comment, for the two exclude each
// other. With origins each line says where its value came from.
func (c Config) Print(w io.Writer, origins bool) error {
	var b strings.Builder
	section := ""
	for _, s := range settings {
		head, name, _ := strings.Cut(s.Key, ".")
		if head != section {
			section = head
			fmt.Fprintf(&b, "%s:\n", section)
		}
		note := ""
		if origins {
			note = "  # " + c.originOf(s)
		}
		if s.Key == "events.weights" {
			fmt.Fprintf(&b, "  %s:%s\n", name, note)
			for _, action := range slices.Sorted(maps.Keys(c.Events.Weights)) {
				fmt.Fprintf(&b, "    %s: %s\n", action, formatWeight(c.Events.Weights[action]))
			}
			continue
		}
		if s.secret() && s.file(&c) != "" {
			name = "# " + name
		}
		fmt.Fprintf(&b, "  %s: %s%s\n", name, s.shown(&c), note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Shown is a setting as it is listed. Its names are those of the JSON form.
type Shown struct {
	Key    string `json:"key"`
	Value  string `json:"value"` // as a variable would have it; passwords are masked
	Origin string `json:"origin"`
}

// List returns the settings in force, in the order of Print, without passwords.
func (c Config) List() []Shown {
	list := make([]Shown, len(settings))
	for i, s := range settings {
		text := s.value(&c).String()
		if s.secret() {
			text = redact(text)
		}
		list[i] = Shown{s.Key, text, c.originOf(s)}
	}
	return list
}

// shown is the value as a YAML scalar.
func (s setting) shown(c *Config) string {
	text := s.value(c).String()
	switch s.value(c).(type) {
	case integer, share, duration:
		return text
	}
	if s.secret() {
		text = redact(text)
	}
	out, err := yaml.Marshal(text)
	if err != nil {
		return fmt.Sprintf("%q", text)
	}
	return strings.TrimSpace(string(out))
}

func (c Config) originOf(s setting) string {
	if origin := c.origin[s.Key]; origin != "" {
		return origin
	}
	return "default"
}
