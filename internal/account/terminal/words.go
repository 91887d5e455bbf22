package terminal

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"tcpcopy/internal/account/history"
)

// plain returns s without what a terminal would not print.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// number shows n with a comma after each three digits.
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

func span(seconds float64) string {
	return (time.Duration(seconds) * time.Second).String()
}

// duration shows d, one of so many; "-" if there is none.
func duration(count uint64, d time.Duration) string {
	switch {
	case count == 0:
		return "-"
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	case d < 10*time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return d.Round(time.Second).String()
}

// rate shows how much of a total was added a second; "-" where nothing ever was.
func rate(v *history.Interval, of func(*history.Point) uint64) string {
	if v.To == nil || of(v.To) == 0 {
		return "-"
	}
	return number(uint64(v.Rate(of) + 0.5))
}

func word(so bool, yes, no string) string {
	if so {
		return yes
	}
	return no
}

// state shows a word in green or in red, in ten columns.
func state(ok bool, text string) string {
	text = fmt.Sprintf("%-10s", text)
	if ok {
		return good.Render(text)
	}
	return bad.Render(text)
}

var levels = []rune("▁▂▃▄▅▆▇█")

// spark draws the last values in at most so many columns, each from 0 to the highest of them.
func spark(values []float64, columns int) string {
	values = values[max(0, len(values)-columns):]
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	if most == 0 {
		return ""
	}
	var b strings.Builder
	for _, v := range values {
		b.WriteRune(levels[min(len(levels)-1, int(v/most*float64(len(levels))))])
	}
	return b.String()
}
