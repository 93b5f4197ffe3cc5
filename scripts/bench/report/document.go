package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"text/template"

	"aggregator/scripts/bench/results"
	"aggregator/scripts/bench/servers"
)

//go:embed document.md.tmpl
var text string

var document = template.Must(template.New("document").Parse(text))

// content is what the template is given.
type content struct {
	results.Results
	plots map[string]string // paths by name, as seen from the document
}

// Write writes the document to a file, and its plots to a folder.
func Write(r results.Results, path, folder string) error {
	plots, err := Plots(r, folder)
	if err != nil {
		return err
	}
	from, err := filepath.Rel(filepath.Dir(path), folder)
	if err != nil {
		return err
	}
	for name, file := range plots {
		plots[name] = filepath.ToSlash(filepath.Join(from, file))
	}
	var out bytes.Buffer
	if err := document.Execute(&out, content{r, plots}); err != nil {
		return err
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}

// Targets is the table of what was asked for.
func (c content) Targets() string { return Targets(c.Results).Markdown() }

// Table is that of a comparison, or a word that it was not measured.
func (c content) Table(name string) string {
	comparison, found := c.Comparisons[name]
	if !found {
		return "Not measured.\n"
	}
	return Comparison(comparison).Markdown()
}

// Plot is a plot, or nothing if it was not measured.
func (c content) Plot(name, alt string) string {
	path, found := c.plots[name]
	if !found {
		return ""
	}
	return fmt.Sprintf("![%s](%s)\n", alt, path)
}

// Offers is the table of the loads that the service was offered.
func (c content) Offers() string {
	if c.Service == nil {
		return "Not measured.\n"
	}
	return Offers(*c.Service).Markdown()
}

// Capacity is that of the service, as a number.
func (c content) Capacity() string {
	if c.Service == nil {
		return "not measured"
	}
	return Number(c.Service.Capacity)
}

// IdleCosts is the table of what an idle service costs.
func (c content) IdleCosts() string {
	if c.Idle == nil {
		return "Not measured.\n"
	}
	return Idle(*c.Idle).Markdown()
}

// SearchTable is that of the texts that books are searched in.
func (c content) SearchTable() string {
	if c.Search == nil {
		return "Not measured.\n"
	}
	return Search(*c.Search).Markdown()
}

// PurgeCosts is the table of what a purge costs, with the plan.
func (c content) PurgeCosts() string {
	if c.Purge == nil {
		return "Not measured.\n"
	}
	return Purge(*c.Purge).Markdown() + "\nHow PostgreSQL finds the rows, in the largest table:\n\n```\n" + c.Purge.Plan + "```\n"
}

// ThinningCosts is the table of what it costs to thin the history out.
func (c content) ThinningCosts() string {
	if c.Purge == nil || len(c.Purge.Thinnings) == 0 {
		return "Not measured.\n"
	}
	return Thinning(*c.Purge).Markdown()
}

// TimelineTable is that of how long it takes to read from a long history.
func (c content) TimelineTable() string {
	if c.Timeline == nil {
		return "Not measured.\n"
	}
	return Timeline(*c.Timeline).Markdown()
}

// MicroTable is that of the Go benchmarks.
func (c content) MicroTable() string {
	if len(c.Micro) == 0 {
		return "Not measured.\n"
	}
	return Micro(c.Micro).Markdown()
}

// Machine is what it all ran on.
func (c content) Machine() string {
	e := c.Environment
	t := Table{Head: []string{"", ""}}
	t.Add("processor", fmt.Sprintf("%s, %d cores, shared by all that is measured", e.CPU, e.Cores))
	t.Add("memory", Number(float64(e.Memory)/(1<<30))+" GiB")
	t.Add("kernel", e.Kernel)
	t.Add("aggregator", e.Aggregator)
	t.Add("Redis", e.Redis+": "+settings(servers.RedisSettings))
	t.Add("PostgreSQL", e.Postgres+": "+settings(servers.PostgresSettings))
	return t.Markdown()
}

func settings(list [][2]string) string {
	text := ""
	for i, s := range list {
		if i > 0 {
			text += ", "
		}
		value := s[1]
		if value == "" {
			value = "''"
		}
		text += "`" + s[0] + " " + value + "`"
	}
	return text
}

// Disturbance is the greatest share of a core that anything else took.
func (c content) Disturbance() string { return Disturbance(c.Results) }
