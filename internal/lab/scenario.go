package lab

import (
	"fmt"
	"strings"
	"time"
)

// Scenario describes a load: what the clients do, and how production answers.
type Scenario struct {
	Name string
	Help string // one line

	Conns    int           // connections at the same time
	Total    int           // connections in all; 0: as many as fit into the duration
	Requests int           // on each connection; 0: as many as fit into the duration
	Think    time.Duration // a client's pause after an answer
	Spread   bool          // the pauses vary from 0 to twice Think
	Duration time.Duration // of the load, where Total does not bound it

	Batch        int           // requests sent together before their answers are awaited; 0 means 1
	RequestBytes int           // of a request, its header included
	AnswerBytes  int           // of an answer, its header included
	Pieces       int           // a batch is sent in so many small writes; 0 means 1
	PieceGap     time.Duration // between them
	Reset        bool          // clients close with RST, after the last answer
	ServerCloses bool          // the server closes first, after the last answer

	Greeting    int           // bytes of production's greeting; 0: it waits to be spoken to
	ServerThink time.Duration // production's pause before each answer
	AnswerIn    int           // an answer goes in so many writes; 0 means 1
	AnswerPause time.Duration // between them

	// CopierAfter is how long after the load the copier is started. Then only requests are compared
	// that production receives Settle after the copier is ready, or later.
	CopierAfter time.Duration
	Settle      time.Duration
}

// scenarios is the table; the first one is the default.
var scenarios = []Scenario{
	{
		Name: "keepalive", Help: "50 keepalive connections with 5 ms think time",
		Conns: 50, Think: 5 * time.Millisecond, Duration: 5 * time.Second, RequestBytes: 200,
		AnswerBytes: 500,
	},
	{
		// Production pauses, so that connections overlap there too.
		Name: "short", Help: "5,000 connections: connect, one request that takes 50 ms, close",
		Conns: 60, Total: 5000, Requests: 1, Think: 10 * time.Millisecond, RequestBytes: 200,
		AnswerBytes: 500,
		ServerThink: 50 * time.Millisecond,
	},
	{
		Name: "pipelined", Help: "requests sent four at a time",
		Conns: 50, Think: 10 * time.Millisecond, Duration: 5 * time.Second, Batch: 4,
		RequestBytes: 200, AnswerBytes: 500,
	},
	{
		Name: "upload", Help: "100 KB uploads",
		Conns: 10, Think: 20 * time.Millisecond, Duration: 5 * time.Second, RequestBytes: 100_000,
		AnswerBytes: 100,
	},
	{
		Name: "download", Help: "500 KB answers",
		Conns: 10, Think: 50 * time.Millisecond, Duration: 5 * time.Second, RequestBytes: 200,
		AnswerBytes: 500_000,
	},
	{
		Name: "greeting", Help: "a server that greets first",
		Conns: 50, Requests: 20, Think: 5 * time.Millisecond, Duration: 5 * time.Second,
		RequestBytes: 200, AnswerBytes: 500, Greeting: 80,
	},
	{
		Name: "dribble", Help: "requests dribbled in small segments",
		Conns: 20, Think: 5 * time.Millisecond, Duration: 5 * time.Second, RequestBytes: 300,
		AnswerBytes: 500,
		Pieces:      6, PieceGap: time.Millisecond,
	},
	{
		Name: "reset", Help: "clients that close with RST after the last answer",
		Conns: 50, Requests: 3, Think: 5 * time.Millisecond, Duration: 5 * time.Second,
		RequestBytes: 200, AnswerBytes: 500, Reset: true,
		ServerThink: 10 * time.Millisecond,
	},
	{
		Name: "fast", Help: "100 connections as fast as they go",
		Conns: 100, Duration: 5 * time.Second, RequestBytes: 200, AnswerBytes: 500,
	},
	{
		Name: "slices", Help: "answers in several writes with pauses between them",
		Conns: 50, Think: 5 * time.Millisecond, Duration: 5 * time.Second, RequestBytes: 200,
		AnswerBytes: 3000,
		AnswerIn:    3, AnswerPause: 3 * time.Millisecond,
	},
	{
		Name: "late", Help: "connections begun before the copier",
		Conns: 50, Think: 5 * time.Millisecond, Duration: 7 * time.Second, RequestBytes: 200,
		AnswerBytes: 500,
		CopierAfter: 1500 * time.Millisecond, Settle: 2 * time.Second,
	},
	{
		Name: "idle", Help: "8,000 mostly idle connections",
		Conns: 8000, Think: 5 * time.Second, Spread: true, Duration: 15 * time.Second,
		RequestBytes: 200, AnswerBytes: 500,
	},
	{
		Name: "bulk", Help: "one connection that uploads 50 MB without waiting, about a gigabit " +
			"a second",
		Conns: 1, Total: 1, Requests: 50, Batch: 50, RequestBytes: 1_000_000, AnswerBytes: 100,
		Pieces: 4, PieceGap: 3 * time.Millisecond,
	},
}

// Scenarios returns all loads. The first is the default.
func Scenarios() []Scenario { return append([]Scenario(nil), scenarios...) }

// FindScenario returns the load of a name. The empty name is the default's.
func FindScenario(name string) (Scenario, error) {
	var names []string
	for _, s := range scenarios {
		if name == s.Name || name == "" {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Scenario{}, fmt.Errorf("find scenario: there is no %q, wanted one of %s", name,
		strings.Join(names, ", "))
}

// check returns an error if the values contradict each other.
func (s *Scenario) check() error {
	switch {
	case s.Conns < 1:
		return fmt.Errorf("scenario %s: %d connections, wanted at least 1", s.Name, s.Conns)
	case s.RequestBytes < requestHeader || s.RequestBytes > maxPayload:
		return fmt.Errorf("scenario %s: requests of %d bytes, wanted %d to %d", s.Name,
			s.RequestBytes, requestHeader, maxPayload)
	case s.AnswerBytes < answerHeader || s.AnswerBytes > maxPayload:
		return fmt.Errorf("scenario %s: answers of %d bytes, wanted %d to %d", s.Name,
			s.AnswerBytes, answerHeader, maxPayload)
	case s.Total > 0 && s.Requests < 1:
		return fmt.Errorf("scenario %s: %d connections without an end", s.Name, s.Total)
	case s.Total == 0 && s.Duration <= 0:
		return fmt.Errorf("scenario %s: a duration of %v, wanted more", s.Name, s.Duration)
	}
	return nil
}
