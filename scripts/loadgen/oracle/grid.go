package oracle

import "slices"

// axis numbers ids from 0, in their order.
type axis struct {
	ids   []int64
	place map[int64]int
}

func newAxis(ids []int64) axis {
	slices.Sort(ids)
	a := axis{ids: ids, place: make(map[int64]int, len(ids))}
	for i, id := range ids {
		a.place[id] = i
	}
	return a
}

// grid holds a score for each profile and column, and whether there is a row for it.
type grid struct {
	width int
	score []float64
	row   []bool
	null  map[int]bool // rows that have no score, which counts as 0
}

func newGrid(profiles, width int) *grid {
	return &grid{
		width: width, score: make([]float64, profiles*width), row: make([]bool, profiles*width), null: map[int]bool{},
	}
}

func (g *grid) add(profile, column int, score float64) {
	at := profile*g.width + column
	g.score[at] += score
	g.row[at] = true
}

// addNull adds a row without a score.
func (g *grid) addNull(profile, column int) {
	at := profile*g.width + column
	g.row[at], g.null[at] = true, true
}

func (g *grid) isNull(profile, column int) bool { return g.null[profile*g.width+column] }

func (g *grid) of(profile int) []float64 {
	return g.score[profile*g.width : (profile+1)*g.width]
}

func (g *grid) rows(profile int) []bool {
	return g.row[profile*g.width : (profile+1)*g.width]
}
