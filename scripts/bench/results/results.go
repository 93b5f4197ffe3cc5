// Package results holds what a benchmark measured, as it is kept in results.json, and the
// statistics of it.
package results

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Results are those of one session, or of several in the same environment.
type Results struct {
	Environment Environment           `json:"environment"`
	Comparisons map[string]Comparison `json:"comparisons"` // by name
	Service     *Service              `json:"service,omitempty"`
	Idle        *Idle                 `json:"idle,omitempty"`
	Purge       *Purge                `json:"purge,omitempty"`
	Timeline    *Timeline             `json:"timeline,omitempty"`
	Micro       []Micro               `json:"micro,omitempty"`
	Search      *Search               `json:"search,omitempty"`
}

// Environment is what figures depend on. Figures of two that are not equal do not belong
// into one document.
type Environment struct {
	Aggregator string `json:"aggregator"` // its version
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	Memory     int64  `json:"memory_bytes"`
	Kernel     string `json:"kernel"`
	Go         string `json:"go"`
	Redis      string `json:"redis"`
	Postgres   string `json:"postgres"`
}

// Comparison is some contenders that did the same, in turn, on the same servers.
type Comparison struct {
	When   time.Time `json:"when"`
	Series []Series  `json:"series"`
}

// Series are the runs of one contender.
type Series struct {
	Contender string  `json:"contender"`
	X         float64 `json:"x,omitempty"` // what it varies, on a ladder
	Runs      []Run   `json:"runs"`
}

// Run is one run of a contender.
type Run struct {
	Events  int64   `json:"events"`
	Seconds float64 `json:"seconds"`

	CPU      CPU   `json:"cpu_seconds"`
	Peak     int64 `json:"peak_memory_bytes,omitempty"`
	WAL      int64 `json:"wal_bytes"`
	Updates  int64 `json:"updates"`           // of rows of scores and marks
	HeapOnly int64 `json:"heap_only_updates"` // of these

	Profiles int64 `json:"profile_updates,omitempty"`
	Chunks   int64 `json:"chunks,omitempty"`
}

// CPU is processor time, in seconds or, where it says so, in cores.
type CPU struct {
	Contender float64 `json:"contender"`
	Redis     float64 `json:"redis"`
	Postgres  float64 `json:"postgres"`
	Ourselves float64 `json:"load_generator,omitempty"`
	Others    float64 `json:"others"` // all else on the machine, which should be nothing
}

// Service is how long events take through a running service, by how many come.
type Service struct {
	When     time.Time `json:"when"`
	Ladder   []Offer   `json:"ladder"`
	Capacity float64   `json:"capacity"` // events a second
	Half     []Offer   `json:"half"`     // at half of the capacity
}

// Offer is a load that was offered at a steady rate. Latencies are milliseconds from when
// an event was to be sent to when it was seen to be committed.
type Offer struct {
	Rate      float64 `json:"rate"` // events a second
	Events    int64   `json:"events"`
	P50       float64 `json:"p50"`
	P90       float64 `json:"p90"`
	P99       float64 `json:"p99"`
	P999      float64 `json:"p99.9"`
	Max       float64 `json:"max"`
	Late      int64   `json:"late"`      // events sent late, by our own fault or that of Redis
	Growth    float64 `json:"growth"`    // how the median latency of the last third compares with that of the middle one
	Sustained bool    `json:"sustained"` // see the document
	CPU       CPU     `json:"cpu_cores"`
}

// Idle is what a service costs that has nothing to do, in cores, several times.
type Idle struct {
	When    time.Time `json:"when"`
	Seconds float64   `json:"seconds"` // that each was measured for
	CPU     []CPU     `json:"cpu_cores"`
}

// Purge is what it costs to remove rows of history that the application has deleted, and
// those that a retention does not keep.
type Purge struct {
	When      time.Time  `json:"when"`
	Removals  []Removal  `json:"removals"`
	Plan      string     `json:"plan"` // by which PostgreSQL finds them in the largest table
	Thinnings []Thinning `json:"thinnings,omitempty"`
}

// Removal is several purges of so many rows of a table. The seconds of a run are those
// without the pauses, and its events the rows.
type Removal struct {
	Rows    int64 `json:"rows"` // of the table
	Removed int64 `json:"removed"`
	Runs    []Run `json:"runs"`
}

// Thinning is several that went through a table for the first time and removed half of its
// rows, and as many that went through what was left and removed nothing. Their seconds are
// without the pauses, and the events of a run the rows removed.
type Thinning struct {
	Rows  int64     `json:"rows"` // of the table
	Runs  []Run     `json:"runs"`
	Again []float64 `json:"again_seconds"`
}

// Timeline is how long it takes to read from the history of a profile.
type Timeline struct {
	When     time.Time `json:"when"`
	Rows     int64     `json:"rows"` // of a profile
	Profiles int64     `json:"profiles"`
	Looks    []Look    `json:"looks"`
}

// Look is what was asked for, and the seconds that each time took.
type Look struct {
	What    string    `json:"what"`
	Seconds []float64 `json:"seconds"`
}

// Micro is a Go benchmark: its figures, of each run, by unit.
type Micro struct {
	Name    string               `json:"name"`
	Figures map[string][]float64 `json:"figures"`
}

// Search is what it costs to keep the texts that books are searched in, and to search.
type Search struct {
	When time.Time   `json:"when"`
	Rows []SearchRow `json:"rows"`
}

// SearchRow is that of so many books, with the index or without. Times are seconds.
type SearchRow struct {
	Books int64     `json:"books"`
	Index bool      `json:"index"`
	Fill  float64   `json:"fill"`  // to write all texts
	Look  float64   `json:"look"`  // to find that there is nothing to do
	Again float64   `json:"again"` // to find and write those that were edited
	Edit  float64   `json:"edit"`  // for the application to edit one
	Find  []float64 `json:"find"`  // each search
	Size  int64     `json:"index_bytes,omitempty"`
}

// Read reads what was kept in a file. If there is none the results are empty.
func Read(path string) (Results, error) {
	var r Results
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	return r, err
}

// Write keeps the results in a file.
func (r Results) Write(path string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
