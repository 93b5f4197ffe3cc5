package report

import (
	"bytes"
	"image/color"
	"math"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"aggregator/scripts/bench/results"
)

// Colours that people who see colours differently can tell apart, too (Okabe and Ito).
var colours = []color.Color{
	color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff}, color.RGBA{0x00, 0x9e, 0x73, 0xff},
}

var (
	grey  = color.Gray{0x70}
	light = color.Gray{0xe0}
)

// chart is a plot of curves, each point of which is the middle of several runs, with bars
// to their ends.
type chart struct {
	title, x, y string
	logX, logY  bool
	curves      []curve
	level       level   // a horizontal line to compare with; none if its name is empty
	marks       []level // vertical ones
}

type curve struct {
	name   string
	points []point
}

type point struct {
	x float64
	y results.Summary
}

type level struct {
	name  string
	value float64
}

func (c curve) Len() int                    { return len(c.points) }
func (c curve) XY(i int) (float64, float64) { return c.points[i].x, c.points[i].y.Median }
func (c curve) YError(i int) (float64, float64) {
	y := c.points[i].y
	return y.Median - y.Min, y.Max - y.Median
}

// draw makes the plot.
func (c chart) draw() (*plot.Plot, error) {
	p := newPlot(c.title)
	p.X.Label.Text, p.Y.Label.Text = c.x, c.y
	p.X.Tick.Marker, p.Y.Tick.Marker = c.ticks(), plot.TickerFunc(linearTicks)
	if c.logX {
		p.X.Scale = plot.LogScale{}
	}
	if c.logY {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(logTicks)
		p.Legend.Top, p.Legend.Left = true, true // where latencies are low
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = light, light
	p.Add(grid)
	for i, curve := range c.curves {
		if err := addCurve(p, curve, colours[i%len(colours)]); err != nil {
			return nil, err
		}
	}
	c.addLevels(p)
	if !c.logY {
		p.Y.Min = 0
		p.Y.Max *= 1.05
	}
	return p, nil
}

func newPlot(title string) *plot.Plot {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	plotter.DefaultFont = plot.DefaultFont
	p := plot.New()
	p.Title.Text = title
	p.Title.TextStyle.Font.Size = vg.Points(13)
	p.Title.Padding = vg.Points(8)
	p.Legend.Padding, p.Legend.ThumbnailWidth = vg.Points(3), vg.Points(18)
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Label.Padding = vg.Points(4)
		axis.Padding = vg.Points(4)
	}
	return p
}

func addCurve(p *plot.Plot, c curve, colour color.Color) error {
	line, dots, err := plotter.NewLinePoints(c)
	if err != nil {
		return err
	}
	bars, err := plotter.NewYErrorBars(c)
	if err != nil {
		return err
	}
	line.Color, line.Width = colour, vg.Points(1.5)
	dots.Color, dots.Radius, dots.Shape = colour, vg.Points(2.5), draw.CircleGlyph{}
	bars.Color = colour
	p.Add(line, bars, dots)
	if c.name != "" {
		p.Legend.Add(c.name+" ", line, dots)
	}
	return nil
}

// addLevels draws the lines to compare with over the whole plot.
func (c chart) addLevels(p *plot.Plot) {
	if c.level.name != "" {
		p.Y.Max = max(p.Y.Max, c.level.value)
		addLine(p, c.level.name, plotter.XYs{{X: p.X.Min, Y: c.level.value}, {X: p.X.Max, Y: c.level.value}}, 0)
	}
	for i, mark := range c.marks {
		addLine(p, mark.name, plotter.XYs{{X: mark.value, Y: p.Y.Min}, {X: mark.value, Y: p.Y.Max}}, i)
	}
}

func addLine(p *plot.Plot, name string, ends plotter.XYs, dash int) {
	line, err := plotter.NewLine(ends)
	if err != nil {
		return // of two finite ends it does not happen
	}
	line.Color, line.Dashes = grey, []vg.Length{vg.Points(float64(6 - 4*dash)), vg.Points(3)}
	p.Add(line)
	p.Legend.Add(name+" ", line)
}

// ticks are those of the X axis: on a ladder, its rungs.
func (c chart) ticks() plot.Ticker {
	if !c.logX {
		return plot.TickerFunc(linearTicks)
	}
	var ticks plot.ConstantTicks
	last := 0.0
	for _, point := range c.curves[0].points {
		tick := plot.Tick{Value: point.x}
		if last == 0 || point.x >= 1.8*last { // else the labels run into each other
			tick.Label, last = Exact(point.x), point.x
		}
		ticks = append(ticks, tick)
	}
	return ticks
}

func linearTicks(low, high float64) []plot.Tick {
	ticks := plot.DefaultTicks{}.Ticks(low, high)
	for i := range ticks {
		if !ticks[i].IsMinor() {
			ticks[i].Label = Exact(ticks[i].Value)
		}
	}
	return ticks
}

// logTicks labels 1, 10, 100 and, where these are few, 2 and 5 as well.
func logTicks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	few := high/low < 100
	for decade := math.Pow(10, math.Floor(math.Log10(low))); decade <= high; decade *= 10 {
		for n := 1.0; n < 10; n++ {
			value := n * decade
			if value < low || value > high {
				continue
			}
			tick := plot.Tick{Value: value}
			if n == 1 || few && (n == 2 || n == 5) {
				tick.Label = Exact(value)
			}
			ticks = append(ticks, tick)
		}
	}
	return ticks
}

// svg writes a plot to a file.
func svg(p *plot.Plot, path string) error {
	canvas := vgsvg.New(17*vg.Centimeter, 9*vg.Centimeter)
	whole := draw.New(canvas)
	margin := vg.Points(8)
	p.Draw(draw.Crop(whole, margin, -margin, margin, -margin))
	var text bytes.Buffer
	if _, err := canvas.WriteTo(&text); err != nil {
		return err
	}
	// Where the font is missing, one of the same measures will do.
	fonts := bytes.ReplaceAll(text.Bytes(), []byte("font-family:Liberation Sans"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif"))
	return os.WriteFile(path, fonts, 0o644)
}
