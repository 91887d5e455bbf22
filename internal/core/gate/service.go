// Package gate decides when a turn of a client may be sent to the target: not before the target has
// answered what the client had seen answered when it sent the turn.
//
// For a protocol that nobody parses, where an answer ends is predicted from production's answer to the
// same turn (by the number of bytes), and else guessed from silence. A Service holds what was learned of
// one mapping; a Gate is the state of one session. Both are pure and belong to one shard.
package gate

import (
	"time"

	"tcpcopy/internal/core/mono"
)

// Mode says what opens the gate.
type Mode uint8

// The modes: --wait.
const (
	Auto  Mode = iota // predicted bytes, else silence
	Bytes             // the number of bytes that production answered, or what is known to stand for it
	Quiet             // silence only
	None              // do not wait
)

// Config is what holds for all sessions of a service.
type Config struct {
	Mode  Mode
	Limit time.Duration // no turn waits longer for the target than this
	// RTO is the retransmission time-out to assume of the target before anything is known of it: silence
	// counts as an end only after twice as long. 0 means 200 ms, Linux's minimum.
	RTO time.Duration
}

const (
	defaultRTO   = 200 * time.Millisecond
	defaultLimit = 30 * time.Second
	minQuiet     = 20 * time.Millisecond
	equalQuiet   = 5 * time.Millisecond // for an answer of production's very length
	maxQuiet     = 2 * time.Second
	// evidence is how many whole answers halve the caution that a new service is met with.
	evidence = 8
)

// Service is what was learned of the answers of one mapping's target. NewService makes one.
type Service struct {
	cfg     Config
	predict predictor

	answers int           // whole answers seen
	longest time.Duration // the longest silence inside an answer, fading
	greets  greeting
}

type greeting uint8

const (
	greetUnknown greeting = iota
	greetNo
	greetYes
)

// NewService returns a service of which nothing is known.
func NewService(cfg Config) *Service {
	if cfg.RTO <= 0 {
		cfg.RTO = defaultRTO
	}
	if cfg.Limit <= 0 {
		cfg.Limit = defaultLimit
	}
	return &Service{cfg: cfg}
}

// quiet is how long the target must be silent for an answer to count as complete. It starts at twice a
// retransmission time-out, so that a lost packet does not look like an end, and shortens with evidence
// towards a few times the longest silence seen inside an answer.
func (s *Service) quiet() time.Duration {
	caution := 2 * s.cfg.RTO * evidence / time.Duration(evidence+s.answers)
	return min(max(caution, 4*s.longest, minQuiet), max(maxQuiet, 2*s.cfg.RTO))
}

// answered notes a whole answer and the longest silence inside it.
func (s *Service) answered(gap time.Duration) {
	s.answers++
	s.longest = max(gap, s.longest-s.longest/64)
}

// startsWith notes whether a connection of the service began with the server's bytes. The last word
// counts: a server that says something to a client which is silent for too long is not one that greets.
func (s *Service) startsWith(server bool) {
	s.greets = greetNo
	if server {
		s.greets = greetYes
	}
}

// A Gate is the state of one copy. The zero value is not usable; Init makes it ready.
type Gate struct {
	svc *Service

	seen     uint64 // Seen of the turn released last
	baseSeen uint64 // Seen of the last settled turn
	base     uint64 // what the target had answered when that turn was released
	recv     uint64 // what the target has answered
	lastRecv mono.Time
	freed    mono.Time     // when the last turn was released
	gap      time.Duration // the longest silence inside the answer that comes in
	settled  bool          // the turn released last was sent after production had finished its answer
	doubt    bool          // the last turn went before as much had come as was predicted
	ahead    uint64        // bytes beyond the answers that turns have waited for: perhaps of later ones
	apart    int64         // bytes more than production has answered since both were level
	astray   uint8         // turns since then
	last     uint64        // production's answer before the client's end, if the target's is still to be learned
	begun    bool          // bytes came since the last turn was released
	hole     bool
	closed   bool
}
