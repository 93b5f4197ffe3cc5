package workload

import "math"

// zipf draws ranks 0..n-1 of which rank r has a share proportional to 1/(r+1)^theta,
// for 0 < theta < 1: the method of Gray et al. ("Quickly Generating Billion-Record
// Synthetic Databases", 1994) that YCSB uses. math/rand/v2 has a Zipf as well, but only
// for exponents above 1, and the customary 0.99 is below it.
type zipf struct {
	n                        int64
	theta, alpha, zetan, eta float64
	second                   float64
}

func newZipf(n int64, theta float64) zipf {
	zetan := 0.0
	for r := int64(1); r <= n; r++ {
		zetan += math.Pow(float64(r), -theta)
	}
	zeta2 := 1 + math.Pow(0.5, theta)
	return zipf{
		n: n, theta: theta, alpha: 1 / (1 - theta), zetan: zetan, second: zeta2,
		eta: (1 - math.Pow(2/float64(n), 1-theta)) / (1 - zeta2/zetan),
	}
}

// rank turns a number uniform in [0, 1) into a rank.
func (z zipf) rank(u float64) int64 {
	switch uz := u * z.zetan; {
	case uz < 1:
		return 0
	case uz < z.second && z.n > 1:
		return 1
	}
	r := int64(float64(z.n) * math.Pow(z.eta*u-z.eta+1, z.alpha))
	return min(max(r, 0), z.n-1)
}
