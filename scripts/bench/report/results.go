// Package report keeps what a benchmark measured and makes tables and the document of it.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Results are those of one session, or of several in the same environment, as results.json keeps them.
type Results struct {
	Environment map[string]string `json:"machine"`
	Parts       map[string]Part   `json:"parts"`
}

// Part is some contenders that did their work in turn, round after round.
type Part struct {
	When   time.Time `json:"when"`
	Series []Series  `json:"series"`
}

// Series are the figures of each run of a contender, by name; columns has the names.
type Series struct {
	Contender string               `json:"contender"`
	Runs      []map[string]float64 `json:"runs"`
}

// Continue returns the results in a file, to which those to come may be added, or empty ones if it is not there,
// is of another environment, or has no name.
func Continue(path string, environment map[string]string) (Results, error) {
	earlier, err := read(path)
	if maps.Equal(earlier.Environment, environment) && earlier.Parts != nil {
		return earlier, err
	}
	return Results{Environment: environment, Parts: map[string]Part{}}, err
}

func read(path string) (r Results, err error) {
	text, err := os.ReadFile(path)
	if path == "" || errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	return r, err
}

// Write keeps the results in a file; without a name, nowhere.
func (r Results) Write(path string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil || path == "" {
		return err
	}
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, append(text, '\n'), 0o644))
}

// The names of contenders, by which they are found again.
const (
	ByDefault = "aggregator"
	Auto      = "aggregator, profiles_per_transaction: auto"
	Together  = "aggregator, 200 profiles per transaction"
	PureSQL   = "pure SQL"
	TPCB      = "pgbench, TPC-B"
	OldJob    = "the old job's queries"
	Larger    = "ten times as many"
	Smaller   = "as many as A"
)

// Each is the name of a contender that has so many events for each profile.
func Each(events int64) string { return fmt.Sprintf("%d a profile", events) }

// Journaled is the name of the same contender with a journal.
func Journaled(events int64) string { return Each(events) + ", with the journal" }

// Find returns the series of a contender; none if it is not there.
func (p Part) Find(contender string) Series {
	for _, s := range p.Series {
		if s.Contender == contender {
			return s
		}
	}
	return Series{}
}

// Summary is the middle and the ends of several figures.
type Summary struct{ Median, Min, Max float64 }

// Of sums up a figure over the runs; false: it was not measured. If pure SQL, say, is given to compare with, it
// sums up, round by round, the quotients of the figure and that of the other: what befell the machine in a round
// has befallen both.
func (s Series) Of(figure string, against ...Series) (Summary, bool) {
	var figures []float64
	for i, run := range s.Runs {
		f, found := run[figure]
		for _, other := range against {
			if found = found && i < len(other.Runs) && other.Runs[i][figure] != 0; found {
				f /= other.Runs[i][figure]
			}
		}
		if found {
			figures = append(figures, f)
		}
	}
	n := len(figures)
	if n == 0 {
		return Summary{}, false
	}
	slices.Sort(figures)
	return Summary{Median: (figures[(n-1)/2] + figures[n/2]) / 2, Min: figures[0], Max: figures[n-1]}, true
}
