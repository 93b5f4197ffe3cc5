package workload

import "fmt"

// The ways in which ids are chosen.
const (
	Uniform = "uniform"
	Zipf    = "zipf"
)

// ids chooses ids from 1 to n.
type ids struct {
	n      int64
	zipf   *zipf // nil: uniform
	stride int64
}

func newIDs(n int64, dist string, theta float64) (ids, error) {
	switch {
	case n < 1:
		return ids{}, fmt.Errorf("there must be at least one id to choose from, not %d", n)
	case n > 1<<31:
		return ids{}, fmt.Errorf("%d ids are more than %d", n, int64(1)<<31)
	case dist == Uniform:
		return ids{n: n}, nil
	case dist != Zipf:
		return ids{}, fmt.Errorf("unknown distribution %q: %s or %s", dist, Uniform, Zipf)
	case theta <= 0 || theta >= 1:
		return ids{}, fmt.Errorf("theta must lie between 0 and 1, not %v", theta)
	}
	z := newZipf(n, theta)
	return ids{n: n, zipf: &z, stride: coprime(n)}, nil
}

func (s ids) draw(d *draw) int64 {
	if s.zipf == nil {
		return 1 + d.below(s.n)
	}
	return s.scramble(s.zipf.rank(d.float()))
}

// scramble spreads the popular ranks over the whole range of ids. Unlike YCSB's hash it
// maps no two ranks to one id, so that the shape stays exactly that of the ranks.
func (s ids) scramble(rank int64) int64 {
	return 1 + (rank*s.stride+s.n/3)%s.n
}

// coprime is a number near the golden section of n that has no factor in common with it.
func coprime(n int64) int64 {
	c := max(int64(float64(n)*0.6180339887498949), 1)
	for gcd(c, n) != 1 {
		c++
	}
	return c
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
