package terminal

import "math"

// Scale is that of bars which can be compared: a bar of Edge takes Cells characters.
type Scale struct {
	Edge  float64 // a round number: 1, 2 or 5 with zeros
	Cells int
}

// ScaleTo is the scale with the least edge that is not below a value, whatever its sign. The edge of 0 is 1.
func ScaleTo(greatest float64, cells int) Scale {
	greatest = math.Abs(greatest)
	s := Scale{1, cells}
	if greatest == 0 {
		return s
	}
	size := math.Pow(10, math.Floor(math.Log10(greatest)))
	for _, times := range []float64{1, 2, 5, 10} {
		if s.Edge = times * size; greatest <= s.Edge {
			break
		}
	}
	s.Edge = min(s.Edge, math.MaxFloat64)
	return s
}

// Length is how many characters a value takes, whatever its sign: to the nearest one, but at least one if
// the value is not 0.
func (s Scale) Length(value float64) int {
	if value == 0 {
		return 0
	}
	return max(1, int(math.Round(math.Abs(value)/s.Edge*float64(s.Cells))))
}

// Each is what a character stands for.
func (s Scale) Each() float64 { return s.Edge / float64(s.Cells) }
