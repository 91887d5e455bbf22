package http2

import (
	"fmt"
	"strconv"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/semantics"
)

// Settings are the settings of HTTP/2: those of gRPC, beside those that it shares with HTTP/1.
type Settings struct {
	Rules    *semantics.Rules // nil: nothing is left out or changed
	Deadline Deadline
}

// Deadline is what becomes of a call's deadline. The zero value passes it as it is.
type Deadline struct {
	None   bool    // it is left out
	Factor float64 // it is multiplied by this, if not 0
}

var _ proto.Sharing = (*Settings)(nil)

// Options is of proto.Settings.
func (s *Settings) Options() []proto.Option {
	return []proto.Option{{
		Name: "grpc-timeout", Arg: "FACTOR|none", Set: s.setDeadline,
		Help: "multiply the deadline that a gRPC call has (grpc-timeout), for a test server that " +
			"is slower, or leave it out with none (default: 1)",
	}}
}

// maxFactor bounds the factor, and its inverse.
const maxFactor = 1000

func (s *Settings) setDeadline(text string) error {
	if text == "none" {
		s.Deadline = Deadline{None: true}
		return nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !(f >= 1.0/maxFactor && f <= maxFactor) {
		return fmt.Errorf("http2: deadline %q: wanted none, or a factor from %v to %v, such as 2",
			text, 1.0/maxFactor, maxFactor)
	}
	s.Deadline = Deadline{Factor: f}
	return nil
}

// Empty is of proto.Settings.
func (s *Settings) Empty() bool { return s.Deadline == Deadline{} }

// Complete is of proto.Settings: nothing is missing.
func (s *Settings) Complete(proto.Env) error { return nil }

// Clone is of proto.Settings.
func (s *Settings) Clone() proto.Settings {
	c := *s
	return &c
}

// Share is of proto.Sharing.
func (s *Settings) Share(of proto.Settings) proto.Settings {
	c := *s
	if rules := of.(*semantics.Rules); !rules.Empty() {
		c.Rules = rules
	}
	return &c
}

// The units of a deadline, in nanoseconds, from the shortest on.
var units = [...]struct {
	name byte
	long float64
}{{'n', 1}, {'u', 1e3}, {'m', 1e6}, {'S', 1e9}, {'M', 60e9}, {'H', 3600e9}}

// mostUnits is the largest number that a deadline may have: one of eight digits.
const mostUnits = 99_999_999

// scale appends a deadline that is multiplied. One that cannot be read is appended as it is.
func (d *Deadline) scale(dst, value []byte) []byte {
	n := len(value) - 1
	if d.Factor == 0 || n < 1 || n > 8 {
		return append(dst, value...)
	}
	long := 0.0
	for _, c := range value[:n] {
		if c < '0' || c > '9' {
			return append(dst, value...)
		}
		long = 10*long + float64(c-'0')
	}
	known := false
	for i := range units {
		if units[i].name == value[n] {
			long, known = long*units[i].long*d.Factor, true
		}
	}
	if !known {
		return append(dst, value...)
	}
	u := 0
	for u < len(units)-1 && long/units[u].long > mostUnits {
		u++
	}
	dst = strconv.AppendUint(dst, uint64(min(max(long/units[u].long, 1), mostUnits)), 10)
	return append(dst, units[u].name)
}
