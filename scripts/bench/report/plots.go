package report

import (
	"fmt"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"aggregator/scripts/bench/results"
)

// Plots writes the plots of what was measured to a folder, and returns the names of the
// files.
func Plots(r results.Results, folder string) (map[string]string, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	files := map[string]string{}
	add := func(name string, p *plot.Plot, err error) error {
		if err != nil {
			return fmt.Errorf("plotting %s: %w", name, err)
		}
		files[name] = name + ".svg"
		return svg(p, filepath.Join(folder, files[name]))
	}
	for name, chart := range charts(r) {
		p, err := chart.draw()
		if err := add(name, p, err); err != nil {
			return nil, err
		}
	}
	if c, measured := r.Comparisons["old"]; measured {
		p, err := steps(c)
		if err := add("old", p, err); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// charts are those of the parts that were measured.
func charts(r results.Results) map[string]chart {
	charts := map[string]chart{}
	yardstick := level{}
	if a, found := r.Comparisons["A"].Find(PureSQL); found {
		yardstick = level{PureSQL, a.Of(results.PerSecond).Median}
	}
	for name, c := range map[string]chart{
		"chunk":    {title: "Size of a chunk", x: "chunk.max_events", logX: true},
		"workers":  {title: "Connections that apply a chunk", x: "apply.workers", logX: true},
		"together": {title: "Profiles that share a transaction", x: "apply.profiles_per_transaction", logX: true},
		"backlog":  {title: "Rate by length of the backlog", x: "events in the backlog", logX: true},
	} {
		measured, found := r.Comparisons[name]
		if !found {
			continue
		}
		c.y, c.curves = "events per second", []curve{rungs(measured, results.PerSecond)}
		if name != "backlog" {
			c.level = yardstick
		}
		charts[name] = c
	}
	if measured, found := r.Comparisons["backlog"]; found {
		charts["memory"] = chart{
			title: "Peak memory by length of the backlog", x: "events in the backlog", y: "MiB", logX: true,
			curves: []curve{rungs(measured, results.Peak)},
		}
	}
	if r.Service != nil {
		charts["latency"] = latencies(*r.Service)
	}
	return charts
}

// rungs are the figures of a ladder, in its order.
func rungs(c results.Comparison, figure func(results.Run) float64) curve {
	var k curve
	for _, s := range c.Series {
		k.points = append(k.points, point{s.X, s.Of(figure)})
	}
	return k
}

func latencies(s results.Service) chart {
	p50, p99 := curve{name: "p50"}, curve{name: "p99"}
	for _, o := range byRate(s.Ladder) {
		p50.points = append(p50.points, point{o.Rate, results.Summarize([]float64{o.P50})})
		p99.points = append(p99.points, point{o.Rate, results.Summarize([]float64{o.P99})})
	}
	c := chart{
		title: "Time from push to commit by offered load", x: "events per second", y: "milliseconds", logY: true,
		curves: []curve{p99, p50},
	}
	if s.Capacity > 0 {
		c.marks = []level{{"capacity", s.Capacity}, {"half of it", s.Capacity / 2}}
	}
	return c
}

// steps is the ladder from the old job to ours: a dot each on a logarithmic scale, where
// bars would have no foot to stand on.
func steps(c results.Comparison) (*plot.Plot, error) {
	p := newPlot("From a query per read and write to the aggregator")
	p.X.Label.Text = "events per second"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.TickerFunc(logTicks)
	names := make([]string, len(c.Series))
	dots := make(plotter.XYs, len(c.Series))
	labels := make([]string, len(c.Series))
	ends := make(plotter.XErrors, len(c.Series))
	for i, s := range c.Series {
		row := len(c.Series) - 1 - i // the first on top
		rate := s.Of(results.PerSecond)
		names[row] = s.Contender
		dots[row] = plotter.XY{X: rate.Median, Y: float64(row)}
		labels[row] = Number(rate.Median)
		ends[row].Low, ends[row].High = rate.Median-rate.Min, rate.Max-rate.Median
	}
	p.NominalY(names...)
	p.Y.Tick.Length = 0
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = light, light
	scatter, err := plotter.NewScatter(dots)
	if err != nil {
		return nil, err
	}
	scatter.Color, scatter.Radius, scatter.Shape = colours[0], vg.Points(4), draw.CircleGlyph{}
	bars, err := plotter.NewXErrorBars(struct {
		plotter.XYs
		plotter.XErrors
	}{dots, ends})
	if err != nil {
		return nil, err
	}
	bars.Color = colours[0]
	texts, err := plotter.NewLabels(plotter.XYLabels{XYs: dots, Labels: labels})
	if err != nil {
		return nil, err
	}
	texts.Offset = vg.Point{X: vg.Points(7), Y: vg.Points(5)}
	p.Add(grid, bars, scatter, texts)
	p.X.Max *= 2 // room for the last label
	p.X.Min /= 1.5
	p.Y.Min, p.Y.Max = -0.5, float64(len(names))-0.5
	return p, nil
}
