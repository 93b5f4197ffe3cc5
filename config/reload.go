package config

import (
	"maps"
	"slices"
	"strings"
)

// fixed says that a running service keeps the setting: its connections, its source, its leases,
// where it listens and how it writes. A change needs a restart.
func (s setting) fixed() bool {
	section, _, _ := strings.Cut(s.Key, ".")
	return slices.Contains([]string{"redis", "postgres", "source", "lease", "http"}, section) ||
		s.Key == "apply.workers" || s.Key == "log.format"
}

// Reload returns the settings that a service which was told c may go on with when it is
// told next: those of next, but for the fixed ones. applied and pending are the keys of
// what has changed by that, and of what would after a restart.
func (c Config) Reload(next Config) (now Config, applied, pending []string) {
	now = next
	if now.origin = maps.Clone(next.origin); now.origin == nil { // it was built by hand
		now.origin = map[string]string{}
	}
	for _, s := range settings {
		old := s.value(&c).String()
		switch {
		case s.value(&next).String() == old:
		case !s.fixed():
			applied = append(applied, s.Key)
		default:
			pending = append(pending, s.Key)
			if err := s.value(&now).Set(old); err != nil {
				panic("config: " + s.Key + " does not take what it was: " + err.Error())
			}
			now.origin[s.Key] = c.origin[s.Key]
		}
	}
	return now, applied, pending
}
