package workload

// draw is a sequence of random numbers that depends on nothing but (seed, index), so
// that event i can be made, and made again by a verifier, without making those before
// it. The generator is splitmix64.
type draw struct{ state uint64 }

func newDraw(seed uint64, index int64) draw {
	// Both are mixed first: neighbouring seeds and neighbouring events must not see
	// shifted copies of one sequence.
	return draw{mix(seed+0x9e3779b97f4a7c15) ^ mix(mix(uint64(index))+0x2545f4914f6cdd1d)}
}

func (d *draw) next() uint64 {
	d.state += 0x9e3779b97f4a7c15
	return mix(d.state)
}

// float is uniform in [0, 1).
func (d *draw) float() float64 { return float64(d.next()>>11) / (1 << 53) }

// below is uniform in [0, n); its bias is below n/2^64.
func (d *draw) below(n int64) int64 { return int64(d.next() % uint64(n)) }

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
