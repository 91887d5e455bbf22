package export

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"tcpcopy/internal/core/ledger"
)

// number formats n with a comma between each three digits.
func number(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// count formats n of a thing, in the singular if n is 1.
func count(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// percent formats the delivered share of f; "-" if nothing was delivered or lost yet.
func percent(f *ledger.Flow) string {
	m, ok := Delivered(f)
	if !ok {
		return "-"
	}
	return fmt.Sprintf("%d.%03d %%", m/1000, m%1000)
}

// size formats a number of bytes in the unit that fits.
func size(n uint64) string {
	const k = 1024
	switch {
	case n < k:
		return count(n, "byte", "bytes")
	case n < k*k:
		return fmt.Sprintf("%.1f KB", float64(n)/k)
	case n < k*k*k:
		return fmt.Sprintf("%.1f MB", float64(n)/(k*k))
	}
	return fmt.Sprintf("%.1f GB", float64(n)/(k*k*k))
}

// span formats a duration to a tenth of a second, from a minute on to a second.
func span(d time.Duration) string {
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return d.Round(100 * time.Millisecond).String()
}
