package lab

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// small is a scenario that is over in a moment.
func small(change func(*Scenario)) Scenario {
	s := Scenario{
		Name: "small", Help: "a rehearsal", Conns: 5, Total: 10, Requests: 20,
		Think:        time.Millisecond,
		RequestBytes: 300, AnswerBytes: 600,
	}
	if change != nil {
		change(&s)
	}
	return s
}

// fiveOrMore is how many connections of five clients production has at once. It may hear of the end
// of some only after their clients have opened others.
var fiveOrMore = regexp.MustCompile(`production's [5-9],`)

// TestFaithfulCopyHasNoProblems checks that a faithful copy is reported without a problem, under
// load, at any size and with any kind of answer.
func TestFaithfulCopyHasNoProblems(t *testing.T) {
	for _, test := range []struct {
		name     string
		scenario Scenario
		answers  string
	}{
		{"keepalive", small(nil), ""},
		{"slower", small(nil), Slower},
		{"bigger", small(nil), Bigger},
		{"smaller", small(nil), Smaller},
		{"one request each", small(func(s *Scenario) { s.Total, s.Requests = 300, 1 }), ""},
		{"pipelined", small(func(s *Scenario) { s.Batch = 4 }), ""},
		{"uploads", small(func(s *Scenario) { s.RequestBytes = 100_000 }), ""},
		{"large answers", small(func(s *Scenario) { s.AnswerBytes = 500_000 }), ""},
		{"larger answers", small(func(s *Scenario) { s.AnswerBytes = 200_000 }), Bigger},
		{"greeting", small(func(s *Scenario) { s.Greeting = 80 }), ""},
		{"greeting, slower", small(func(s *Scenario) { s.Greeting = 80 }), Slower},
		{"dribble", small(func(s *Scenario) { s.Pieces, s.PieceGap = 6, time.Millisecond }), ""},
		{"reset", small(func(s *Scenario) { s.Reset = true }), ""},
		{"answers in slices", small(func(s *Scenario) {
			s.AnswerIn, s.AnswerPause = 3,
				time.Millisecond
		}), Bigger},
		{"as fast as they go", small(func(s *Scenario) {
			s.Conns, s.Total, s.Requests, s.Think = 50,
				50, 200, 0
		}), ""},
		{"bulk", small(func(s *Scenario) {
			s.Conns, s.Total, s.Requests, s.Batch = 1, 1, 20, 20
			s.RequestBytes, s.AnswerBytes = 1_000_000, 100
		}), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := rehearsal{scenario: test.scenario, answers: test.answers}.play(t)
			if problems := r.Problems(); len(problems) > 0 {
				t.Errorf("%s", printed(r))
			}
			want := int64(test.scenario.Total * test.scenario.Requests)
			if r.Production.Requests != want || r.Target.Requests != want {
				t.Errorf("%d requests at production and %d at the target, wanted %d",
					r.Production.Requests, r.Target.Requests, want)
			}
		})
	}
}

// afterSeconds is the part of a problem that differs from run to run.
var afterSeconds = regexp.MustCompile(`\(after \d+\.\d s\)`)

// at returns a function that makes one fault, in request 7 of connection 3.
func at(f fault) func(request) fault {
	return func(q request) fault {
		if q.conn == 3 && q.num == 7 {
			return f
		}
		return faithful
	}
}

// faultCases are faults, and the problems that must be reported for each.
var faultCases = []struct {
	name     string
	scenario Scenario
	answers  string
	fault    func(request) fault
	want     []string // the problems, exactly
	example  string   // in the table
}{
	{
		name: "a request dropped", scenario: small(nil), fault: at(drop),
		want:    []string{"1 of 200 requests are missing at the target (99.500 % delivered)"},
		example: "missing: connection 3 request 7",
	},
	{
		name: "a request doubled", scenario: small(nil), fault: at(double),
		want:    []string{"the target received 1 requests again"},
		example: "duplicated: connection 3 request 7",
	},
	{
		name: "two requests swapped", scenario: small(func(s *Scenario) { s.Batch = 4 }),
		fault: func(q request) fault {
			if q.conn == 3 && q.num == 5 {
				return swap
			}
			return faithful
		},
		want:    []string{"the target received 1 requests out of order"},
		example: "reordered: connection 3 request 5 after 6",
	},
	{
		name: "a payload bit flipped", scenario: small(nil), fault: at(flipBody),
		want:    []string{"the target received 1 corrupted requests"},
		example: "corrupted: connection 3 request 7: payload of 264 bytes differs",
	},
	{
		name: "a header bit flipped", scenario: small(nil), fault: at(flipHead),
		want: []string{
			// its connection ends there
			"13 of 200 requests are missing at the target (93.500 % delivered)",
			"the target received 1 corrupted requests",
		},
		example: "corrupted: header",
	},
	{
		name: "a request not held back", answers: Slower, fault: at(hasty),
		scenario: small(func(s *Scenario) { s.Total, s.ServerThink = 5, 20*time.Millisecond }),
		want:     []string{"the target received 1 requests too early"},
		example:  "early: connection 3 request 7: its client had seen 7 answers",
	},
	{
		name: "a request in the middle of the answer before", answers: Slower,
		fault: at(tooHasty),
		scenario: small(func(s *Scenario) {
			s.AnswerIn, s.AnswerPause = 2,
				20*time.Millisecond
		}),
		want: []string{"the target received 1 requests too early"},
		example: "early: connection 3 request 7: its client had seen 7 answers, of which " +
			"byte 4200 was not acknowledged here (3900 were)",
	},
	{
		name: "a client that does not wait for the greeting", answers: Slower,
		scenario: small(func(s *Scenario) {
			s.Greeting = 80
			s.AnswerIn, s.AnswerPause = 2,
				20*time.Millisecond
		}),
		fault: func(q request) fault {
			if q.conn == 3 && q.num == 0 {
				return hasty
			}
			return faithful
		},
		want: []string{"the target received 1 requests too early"},
		example: "early: connection 3 request 0: its client had seen 0 answers, of which " +
			"byte 80 was not acknowledged here",
	},
	{
		name: "a request under a wrong name", scenario: small(nil), fault: at(elsewhere),
		want: []string{
			"1 of 200 requests are missing at the target (99.500 % delivered)",
			"the target received 1 requests that production did not",
		},
		example: "unexpected: connection 1048579 request 7",
	},
	{
		name: "a connection left open", scenario: small(nil), fault: at(neverClose),
		want: []string{"1 connections stayed open at the target, 0 at production"},
	},
	{
		name: "connections pile up", scenario: small(func(s *Scenario) { s.Total = 20 }),
		fault: func(request) fault { return neverClose },
		want: []string{
			"20 connections at the same time at the target (after T s), more than 1.5 times " +
				"production's 5, and 4",
			"20 connections stayed open at the target, 0 at production",
		},
	},
	{
		name: "no gate at all", answers: Slower,
		scenario: small(func(s *Scenario) {
			s.Conns, s.Total, s.ServerThink = 1, 1,
				20*time.Millisecond
		}),
		fault:   func(request) fault { return hasty },
		want:    []string{"the target received 19 requests too early"},
		example: "early: connection 0 request 1",
	},
}

// TestFaultsAreFound makes one fault of each kind on purpose.
func TestFaultsAreFound(t *testing.T) {
	for _, test := range faultCases {
		t.Run(test.name, func(t *testing.T) {
			r := rehearsal{scenario: test.scenario, answers: test.answers,
				fault: test.fault}.play(t)
			got := afterSeconds.ReplaceAllString(fmt.Sprintf("%q", r.Problems()), "(after T s)")
			got = fiveOrMore.ReplaceAllString(got, "production's 5,")
			if want := fmt.Sprintf("%q", test.want); got != want {
				t.Errorf("problems %s\nwanted   %s\n%s", got, want, printed(r))
			}
			if test.example != "" && !strings.Contains(printed(r), test.example) {
				t.Errorf("the table does not say %q:\n%s", test.example, printed(r))
			}
		})
	}
}

// TestBegunBeforeTheCopier copies from the tenth request of each connection on.
func TestBegunBeforeTheCopier(t *testing.T) {
	for _, greeting := range []int{0, 80} {
		h := rehearsal{
			scenario: small(func(s *Scenario) {
				s.Conns, s.Total, s.Requests = 5, 5, 60
				s.Think, s.Greeting = 5*time.Millisecond, greeting
			}),
			from:    func(q request) bool { return q.num >= 10 },
			settled: 12,
		}
		r := h.play(t)
		if problems := r.Problems(); len(problems) > 0 {
			t.Errorf("greeting %d: %s", greeting, printed(r))
		}
		if c := r.Comparison; c.Compared == 0 || c.Compared >= r.Production.Requests {
			t.Errorf("greeting %d: %d of %d requests were compared, wanted a part", greeting,
				c.Compared, r.Production.Requests)
		}
		// The same, but too late: what is missing after the settling time counts.
		h.from = func(q request) bool { return q.num >= 58 }
		if problems := h.play(t).Problems(); len(problems) == 0 || !strings.Contains(problems[0],
			"are missing") {
			t.Errorf("greeting %d: nothing is missing of a copy that began too late: %q", greeting,
				problems)
		}
	}
}
