package verdict

import "math"

// alpha is the probability, in any run of equal servers and however often it is looked at, that a
// difference is reported.
const alpha = 0.01

// evidence returns the logarithm of the e-value of b outcomes for a difference and c against it,
// where each outcome is for it with a probability of at most p if there is none. The e-value is the
// mean of the likelihood ratio over all probabilities above p,
//
//	E = B(b+1, c+1) (1 − I_p(b+1, c+1)) / (p^b (1−p)^c (1−p)),
//
// a martingale with mean 1 at most: that it ever exceeds x has a probability of at most 1/x
// (Ville's inequality), so that it may be looked at after every outcome.
func evidence(b, c uint64, p float64) float64 {
	x, y := float64(b), float64(c)
	return logBeta(x+1, y+1) + logUpper(x+1, y+1, p) - x*math.Log(p) - (y+1)*math.Log1p(-p)
}

// threshold returns the logarithm of the e-value from which one of so many cells is reported. Their
// number grows as they are met; the probabilities α/k(k+1) of the k-th cell sum to α, as α divided
// by the number of cells met so far does not.
func threshold(cells int) float64 {
	k := float64(max(cells, 1))
	return math.Log(k*(k+1)) - math.Log(alpha)
}

func logBeta(a, b float64) float64 {
	x, _ := math.Lgamma(a)
	y, _ := math.Lgamma(b)
	z, _ := math.Lgamma(a + b)
	return x + y - z
}

// logUpper returns the logarithm of 1 − I_p(a, b), where I is the regularised incomplete beta
// function.
func logUpper(a, b, p float64) float64 {
	if p >= (a+1)/(a+b+2) {
		return logLower(b, a, 1-p) // 1 − I_p(a, b) = I_{1−p}(b, a)
	}
	return math.Log1p(-math.Exp(logLower(a, b, p)))
}

// logLower returns the logarithm of I_p(a, b), by its continued fraction, which converges fast for
// p < (a+1)/(a+b+2) (DLMF 8.17.22, evaluated with Lentz's method).
func logLower(a, b, p float64) float64 {
	const tiny, most = 1e-300, 10000
	c, d := 1.0, 1-(a+b)*p/(a+1)
	if math.Abs(d) < tiny {
		d = tiny
	}
	d = 1 / d
	h := d
	for m := 1.0; m < most; m++ {
		for _, t := range [2]float64{
			m * (b - m) * p / ((a + 2*m - 1) * (a + 2*m)),
			-(a + m) * (a + b + m) * p / ((a + 2*m) * (a + 2*m + 1)),
		} {
			if d = 1 + t*d; math.Abs(d) < tiny {
				d = tiny
			}
			if c = 1 + t/c; math.Abs(c) < tiny {
				c = tiny
			}
			d = 1 / d
			h *= c * d
		}
		if math.Abs(c*d-1) < 1e-14 {
			break
		}
	}
	return a*math.Log(p) + b*math.Log1p(-p) - math.Log(a) - logBeta(a, b) + math.Log(h)
}
