package cluster

import (
	"slices"
	"strings"
	"time"
)

// Instance is an instance, and what it has of the sources. Its names are those of the JSON form.
type Instance struct {
	Instance string     `json:"instance"`
	State    string     `json:"state"` // living, draining, gone; unknown: an older program
	Version  string     `json:"version,omitempty"`
	Started  *time.Time `json:"started_at"`
	Seen     *time.Time `json:"seen_at"`
	Age      *float64   `json:"seen_seconds_ago"`
	Kind     string     `json:"source_kind,omitempty"`
	Key      string     `json:"source_key,omitempty"`
	Parts    int        `json:"partitions,omitempty"`
	Sources  []string   `json:"sources"` // that it has
	Target   *int       `json:"target"`  // null: it is of another source
}

// Instances are the instances that share sources, and those that hold some of these names without being members, by
// name. now is PostgreSQL's.
func Instances(members []Member, leases []Lease, now time.Time, group Group,
	names []string,
) []Instance {
	targets := TargetsOf(members, leases, now, group, names)
	held := make(map[string][]string)
	for _, l := range leases {
		if l.Held(now) {
			held[l.Holder] = append(held[l.Holder], l.Source)
		}
	}
	lines := []Instance{}
	known := make(map[string]bool)
	for _, m := range members {
		known[m.Instance] = true
		started, seen, age := m.Started.UTC(), m.Seen.UTC(), now.Sub(m.Seen).Seconds()
		line := Instance{
			Instance: m.Instance, State: "living", Version: m.Version, Started: &started, Seen: &seen, Age: &age,
			Kind: m.Group.Kind, Key: m.Group.Key, Parts: m.Group.Partitions, Sources: append([]string{}, held[m.Instance]...),
		}
		switch {
		case !m.Lives(now):
			line.State = "gone"
		case m.Draining:
			line.State = "draining"
		}
		if m.Lives(now) && m.Group == group {
			n := targets[m.Instance]
			line.Target = &n
		}
		lines = append(lines, line)
	}
	for _, l := range leases {
		if !known[l.Holder] && l.Held(now) && slices.Contains(names, l.Source) {
			known[l.Holder] = true
			n := targets[l.Holder]
			lines = append(lines, Instance{Instance: l.Holder, State: "unknown", Sources: held[l.Holder], Target: &n})
		}
	}
	slices.SortFunc(lines, func(a, b Instance) int { return strings.Compare(a.Instance, b.Instance) })
	return lines
}
