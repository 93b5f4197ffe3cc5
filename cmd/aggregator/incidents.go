package main

import (
	"fmt"
	"time"

	"aggregator/internal/events"
	"aggregator/internal/ledger"
	"aggregator/internal/service"
)

// incidentLine is an open incident. Its names are those of the JSON form.
type incidentLine struct {
	Source   string              `json:"source"`
	Kind     ledger.IncidentKind `json:"kind"`
	From     string              `json:"from"` // entries after this position
	To       string              `json:"to"`   // up to this one
	Entries  int64               `json:"entries"`
	Retained int64               `json:"retained"` // of these, still in Redis when it was found
	Lost     int64               `json:"lost"`     // of these, applied nowhere and gone from Redis, as far as is known
	Detected time.Time           `json:"detected_at"`
	Text     string              `json:"text"`
}

func newIncidentLines(all []ledger.Incident) []incidentLine {
	lines := make([]incidentLine, len(all))
	for i, one := range all {
		lines[i] = incidentLine{
			Source: one.Source, Kind: one.Kind, From: one.From.String(), To: one.To.String(),
			Entries: one.Entries, Retained: one.Retained, Lost: one.Lost(),
			Detected: one.Detected.UTC(), Text: one.String(),
		}
	}
	return lines
}

func (l incidentLine) String() string {
	since := ""
	if !l.Detected.IsZero() {
		since = ", since " + l.Detected.Format(time.RFC3339)
	}
	return fmt.Sprintf("incident: %s: %s%s: %s", l.Source, l.Kind, since, l.Text)
}

// elsewhereLine is a source that the settings do not name. Its names are those of the JSON form.
type elsewhereLine struct {
	Source  string `json:"source"`
	Key     string `json:"key"`     // what producers push to
	Former  bool   `json:"former"`  // of the same source.key: it is drained as well
	Waiting *int64 `json:"waiting"` // null: not known
	Problem string `json:"problem,omitempty"`

	text string
}

func newElsewhereLines(all []events.Elsewhere) []elsewhereLine {
	lines := make([]elsewhereLine, len(all))
	for i, e := range all {
		lines[i] = elsewhereLine{
			Source: e.Source.Name(), Key: e.Source.Key(), Former: e.Former, Problem: e.Problem,
			text: service.DescribeElsewhere(e),
		}
		if e.Waiting >= 0 {
			lines[i].Waiting = &e.Waiting
		}
	}
	return lines
}

func (l elsewhereLine) String() string { return l.text }
