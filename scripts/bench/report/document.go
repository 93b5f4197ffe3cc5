package report

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

//go:embed document.md.tmpl
var documentText string

//go:embed bars.svg.tmpl
var barsText string

var (
	documentTemplate = template.Must(template.New("document").Parse(documentText))
	barsTemplate     = template.Must(template.New("bars").Parse(barsText))
)

// Render writes the document of results that were kept in a file, and beside that its chart, bars.svg.
func Render(kept, document string) error {
	r, err := read(kept)
	if err != nil {
		return err
	}
	from, err := filepath.Rel(filepath.Dir(document), filepath.Dir(kept))
	if err != nil {
		return err
	}
	var text, chart bytes.Buffer
	if err := documentTemplate.Execute(&text, page{r, filepath.ToSlash(from)}); err != nil {
		return err
	}
	if err := barsTemplate.Execute(&chart, r.bars()); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(document, text.Bytes(), 0o644),
		os.WriteFile(filepath.Join(filepath.Dir(kept), "bars.svg"), chart.Bytes(), 0o644))
}

// page is what the template of the document is given.
type page struct {
	Results
	Folder string // of the results, as seen from the document
}

// The names of contenders, for the template.
func (page) ByDefault() string { return ByDefault }
func (page) Auto() string      { return Auto }
func (page) Together() string  { return Together }
func (page) PureSQL() string   { return PureSQL }

// Table is that of a part, or a word that it was not measured.
func (p page) Table(name string) string {
	if part, found := p.Parts[name]; found {
		return part.Table()
	}
	return "Not measured.\n"
}

// Figure is the median of a figure, as a number.
func (p page) Figure(part, contender, figure string) string {
	if s, found := p.Parts[part].Find(contender).Of(figure); found {
		return Number(s.Median)
	}
	return "(not measured)"
}

// phase is what the names of figures begin with that are the daemon's own report, by the way that leads to them in
// it.
const phase = "phase "

// AddPhases puts the numbers of what `aggregator drain` reports of a source among the figures of a run, as in
// "phase apply p95". It takes whatever is there.
func AddPhases(into map[string]float64, reported any) { flatten(into, "phase", reported) }

func flatten(into map[string]float64, path string, value any) {
	switch v := value.(type) {
	case float64:
		into[path] = v
	case map[string]any:
		for name, item := range v {
			flatten(into, path+" "+name, item)
		}
	case []any:
		for i, item := range v {
			name := fmt.Sprint(i)
			if object, ok := item.(map[string]any); ok && object["name"] != nil {
				name = fmt.Sprint(object["name"])
			}
			flatten(into, path+" "+name, item)
		}
	}
}

// Phases is the table of what the daemon reported of itself in A.
func (p page) Phases() string {
	rows := [][]string{{""}}
	var names []string
	for _, s := range p.Parts["A"].Series {
		if s.Contender == PureSQL || s.Contender == TPCB {
			continue
		}
		rows[0] = append(rows[0], s.Contender)
		for name := range s.Runs[0] {
			if strings.HasPrefix(name, phase) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return "Not measured.\n"
	}
	slices.Sort(names)
	for _, name := range names {
		row := []string{strings.TrimPrefix(name, phase)}
		for _, contender := range rows[0][1:] {
			row = append(row, p.Figure("A", contender, name))
		}
		rows = append(rows, row)
	}
	return markdown(rows)
}

// Machine is what it all ran on.
func (p page) Machine() string {
	rows := [][]string{{"", ""}}
	for _, name := range []string{"processor", "memory", "kernel", "aggregator", "Redis", "PostgreSQL"} {
		rows = append(rows, []string{name, p.Environment[name]})
	}
	return markdown(rows)
}

// Disturbance is the greatest share of a core that anything else took beside a contender, in the median of its
// runs.
func (p page) Disturbance() string {
	most := 0.0
	for _, part := range p.Parts {
		for _, s := range part.Series {
			others, _ := s.Of("cpu_others")
			if seconds, found := s.Of("seconds"); found {
				most = max(most, others.Median/seconds.Median)
			}
		}
	}
	return fmt.Sprintf("%.2f", most)
}

// bar is one of the chart: where it is and how long, in pixels.
type bar struct {
	Y           int
	Length      float64
	Name, Value string
}

// bars are the seconds that 100,000 events take in each way that was measured, the old job's in proportion.
func (r Results) bars() (list []bar) {
	longest := 0.0
	for _, s := range slices.Concat([]Series{r.Parts["old"].Find(OldJob)}, r.Parts["A"].Series) {
		if took, found := s.Of("us_per_event"); found {
			seconds := took.Median / 10
			longest = max(longest, seconds)
			list = append(list, bar{40 + 24*len(list), seconds, s.Contender, Number(seconds) + " s"})
		}
	}
	for i := range list {
		list[i].Length = math.Ceil(300 * list[i].Length / longest)
	}
	return list
}
