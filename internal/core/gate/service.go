// Package gate decides when a turn of a client may be sent to the target: not before the target has
// answered what the client had seen answered when it sent the turn.
//
// If no protocol tells where an answer ends, the end is predicted from the length of production's
// answer to the same turn, or else guessed from silence. A Service holds what was learned of one
// mapping; a Gate is the state of one copy. Both are pure and belong to one shard.
package gate

import (
	"time"
)

// Mode selects what opens the gate (option --wait).
type Mode uint8

// The modes.
const (
	Auto  Mode = iota // the predicted number of bytes, else silence
	Bytes             // the predicted number of bytes, else as many as production answered
	Quiet             // silence only
	None              // turns do not wait
)

// Config holds the settings of a service.
type Config struct {
	Mode  Mode
	Limit time.Duration // the longest wait of a turn; 0 means 30 s
	// RTO is the retransmission timeout to assume of the target. Until answers have been observed,
	// silence counts as an end only after twice as long. 0 means 200 ms, Linux's minimum.
	RTO time.Duration
}

const (
	defaultRTO   = 200 * time.Millisecond
	defaultLimit = 30 * time.Second
	minQuiet     = 20 * time.Millisecond
	equalQuiet   = 5 * time.Millisecond // for an answer of exactly production's length
	maxQuiet     = 2 * time.Second
	againAfter   = 5 * time.Millisecond // a turn that waits for silence asks no earlier again
	// evidence is how many whole answers halve the caution that applies to a new service.
	evidence = 8
)

// Service is what was learned of the answers of one mapping's target. NewService returns a new one.
type Service struct {
	cfg     Config
	predict predictor

	answers int           // whole answers seen
	longest time.Duration // the longest silence inside an answer; it decays with each answer
	greets  greeting
}

// greeting is whether the service's server speaks first.
type greeting uint8

const (
	greetUnknown greeting = iota
	greetNo
	greetYes
)

// NewService returns a Service that has learned nothing.
func NewService(cfg Config) *Service {
	if cfg.RTO <= 0 {
		cfg.RTO = defaultRTO
	}
	if cfg.Limit <= 0 {
		cfg.Limit = defaultLimit
	}
	return &Service{cfg: cfg}
}

// quiet returns how long the target must be silent for an answer to count as whole. It starts at
// two retransmission timeouts, so that a lost packet does not look like an end, and falls with the
// number of answers to four times the longest silence seen inside an answer.
func (s *Service) quiet() time.Duration {
	caution := 2 * s.cfg.RTO * evidence / time.Duration(evidence+s.answers)
	return min(max(caution, 4*s.longest, minQuiet), max(maxQuiet, 2*s.cfg.RTO))
}

// answered notes a whole answer and the longest silence inside it.
func (s *Service) answered(gap time.Duration) {
	s.answers++
	s.longest = max(gap, s.longest-s.longest/64)
}

// Quiet returns how long the target must at present be silent for an answer to count as whole.
func (s *Service) Quiet() time.Duration { return s.quiet() }

// Parses reports whether a protocol decides when a turn may go. It does not if the mode is another
// than Auto.
func (s *Service) Parses() bool { return s.cfg.Mode == Auto }

// Waits reports whether turns wait at all.
func (s *Service) Waits() bool { return s.cfg.Mode != None }

// Limit returns the longest wait of a turn.
func (s *Service) Limit() time.Duration { return s.cfg.Limit }

// Greeted notes whether the first bytes on a connection of this service were the server's. The last
// call counts: a server that reports an idle client's timeout is not one that greets.
func (s *Service) Greeted(yes bool) {
	s.greets = greetNo
	if yes {
		s.greets = greetYes
	}
}

// Greeting returns how long an adopted copy waits for the target's greeting after it has opened.
// The copy continues once the target has been silent for quiet after its first bytes, or has sent
// nothing for wait. wait is 0 if the service is known not to greet.
func (s *Service) Greeting() (wait, quiet time.Duration) {
	switch s.greets {
	case greetNo:
		return 0, 0
	case greetYes:
		return s.cfg.Limit, s.quiet()
	default:
		return 2 * s.cfg.RTO, s.quiet()
	}
}
