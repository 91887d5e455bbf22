package session

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
	"tcpcopy/internal/proto/redis"
	"tcpcopy/internal/proto/semantics"
)

var redisProtocol, httpProtocol = *redis.Protocol, *http1.Protocol

// watched has the sessions of a rig read production's answers.
func watched(certain bool, p proto.Protocol) func(*Service) {
	return func(svc *Service) {
		svc.Production, svc.Certain, svc.Protocols = true, certain, []proto.Protocol{p}
	}
}

// speaks has the server send text that the client has not seen yet.
func (r *rig) speaks(text string) {
	r.Helper()
	r.speaksAt(r.sent, text)
	r.sent += len(text)
}

func (r *rig) speaksAt(off int, text string) {
	r.Helper()
	r.fromServer(packet.Segment{Seq: r.irs.Add(1 + off), Ack: r.isn.Add(1 + r.next),
		Flags: packet.ACK,
		Len:   len(text), Payload: []byte(text)})
}

// sees has the client see what the server has sent.
func (r *rig) sees() { r.seen = r.sent }

func (r *rig) production(want ledger.Answers, lost uint64) {
	r.Helper()
	got := r.count.Requests.Production
	got.First, got.Whole = ledger.Delays{}, ledger.Delays{}
	if got != want || r.count.Requests.ProductionLost != lost {
		r.Errorf("at %v: production's answers %+v, %d lost, wanted %+v, %d", r.now, got,
			r.count.Requests.ProductionLost, want, lost)
	}
}

// statuses returns counts of HTTP's classes of status, from 1xx on.
func statuses(counts ...uint64) (by ledger.ByClass) {
	for i, n := range counts {
		by[http1.Protocol.Class(&proto.Answer{Status: uint16(100 * (i + 1))})] = n
	}
	return by
}

const (
	ping = "*1\r\n$4\r\nPING\r\n"
	pong = "+PONG\r\n"
)

// A client with two outstanding requests sends one for each answer that it sees. When it does, it
// has seen everything that production has sent.
func TestProductionWindow(t *testing.T) {
	for name, certain := range map[string]bool{"certain": true, "recognised": false} {
		t.Run(name, func(t *testing.T) {
			r := fresh(t, watched(certain, redisProtocol))
			r.data(ping + ping)
			r.copied(ping + ping)
			r.takes()
			r.speaks(pong)
			r.sees()
			r.data(ping)
			r.wait(sec)
			r.copied(ping + ping)
			r.ends(10)
			r.copied(ping + ping + ping)
			r.takes()
			r.speaks(pong)
			r.sees()
			r.speaks(pong) // which the client has not seen
			r.data(ping)
			r.copied(ping + ping + ping)
			r.ends(10)
			r.copied(ping + ping + ping + ping)
			r.takes()
			// A client that has seen two answers more waits for two.
			r.speaks(pong)
			r.sees()
			r.data(ping)
			r.ends(10)
			r.wait(sec)
			r.copied(strings.Repeat(ping, 4))
			r.ends(10)
			r.copied(strings.Repeat(ping, 5))
			r.production(ledger.Answers{Answered: 4}, 0)
		})
	}
}

// A client that has seen half of an answer waits for none.
func TestProductionHalf(t *testing.T) {
	r := fresh(t, watched(true, redisProtocol))
	r.data(ping)
	r.takes()
	r.speaks(pong[:3])
	r.sees()
	r.data(ping)
	r.copied(ping + ping)
}

func TestProductionStatus(t *testing.T) {
	const (
		get  = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
		head = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
		ok   = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
		bad  = "HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"
	)
	for _, tc := range []struct {
		name    string
		further bool
		want    ledger.Answers
	}{
		{"the first copy", false,
			ledger.Answers{Answered: 3, Failed: 1, Status: statuses(1, 2, 0, 0, 1)}},
		{"another copy", true, ledger.Answers{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, watched(false, httpProtocol))
			r.further = tc.further
			r.syn()
			r.opened()
			r.data(get)
			r.speaks("HTTP/1.1 100 Continue\r\n\r\n")
			r.speaks(ok)
			r.speaks("hi")
			r.sees()
			r.data(head)
			r.speaks(ok) // and no body
			r.sees()
			r.data(get)
			for _, b := range bad {
				r.speaks(string(b))
			}
			r.production(tc.want, 0)
		})
	}
}

// Segments out of order, repeated and overlapping are read as the client's kernel reads them.
func TestProductionOrder(t *testing.T) {
	r := fresh(t, watched(true, redisProtocol))
	r.data(ping + ping)
	r.speaksAt(3, pong[3:])
	r.speaksAt(7, pong)
	r.production(ledger.Answers{}, 0)
	r.speaksAt(0, pong[:5])
	r.speaksAt(0, pong)
	r.production(ledger.Answers{Answered: 2}, 0)
}

func TestProductionUnderWay(t *testing.T) {
	r := newRig(t, watched(false, redisProtocol))
	r.seen, r.sent, r.next = 1000, 1000, 500
	r.ack()
	r.wait(2 * sec)
	r.data(ping + ping)
	r.opened()
	r.wait(sec)
	r.copied(ping + ping)
	r.takes()
	r.speaks(pong)
	r.sees()
	r.data(ping)
	r.copied(ping + ping)
	r.ends(9)
	r.copied(ping + ping + ping)
	r.production(ledger.Answers{Answered: 1}, 0)
}

// If production was answering when the turn began, what it sends next does not answer that turn.
func TestProductionUnderWayUnsettled(t *testing.T) {
	r := newRig(t, watched(true, redisProtocol))
	r.seen, r.sent, r.next = 1000, 1000, 500
	r.ack()
	r.says(7)
	r.wait(2 * sec)
	r.data(ping)
	r.opened()
	r.speaks(pong)
	r.production(ledger.Answers{}, 0)
	r.sees()
	r.data(ping) // all was answered
	r.speaks(pong)
	r.production(ledger.Answers{Answered: 1}, 0)
}

// A packet of the server was not captured, but its client has seen it. The turn is gated by the
// target's answers alone, and reading begins again with it.
func TestProductionMissed(t *testing.T) {
	r := fresh(t, watched(true, redisProtocol))
	r.data(ping)
	r.takes()
	r.ends(10)
	r.speaks(pong)
	r.sees()
	r.data(ping)
	r.takes()
	r.ends(10)
	r.sent += len(pong)
	r.speaks("") // the client's ACK is captured, and what it acknowledges is not
	r.sees()
	r.data(ping)
	r.copied(ping + ping + ping)
	r.production(ledger.Answers{Answered: 1}, 1)
	r.speaks(pong)
	r.production(ledger.Answers{Answered: 2}, 1)
}

func TestProductionGap(t *testing.T) {
	r := fresh(t, watched(true, redisProtocol))
	r.data(ping)
	r.speaks(pong)
	r.sees()
	r.next += 5 // not captured
	r.data(ping)
	r.wait(10 * sec)
	r.speaks(pong)
	r.production(ledger.Answers{Answered: 1}, 1)
	r.sees()
	r.data(ping)
	r.speaks(pong)
	r.production(ledger.Answers{Answered: 2}, 1)
}

// If only headers are captured there is nothing to read, and nothing is lost.
func TestProductionCut(t *testing.T) {
	r := fresh(t, watched(true, redisProtocol))
	for range 3 {
		r.data(ping)
		r.takes()
		r.says(len(pong))
		r.sees()
		r.ends(10)
	}
	r.production(ledger.Answers{}, 0)
	r.copied(ping + ping + ping)
}

func TestProductionEnds(t *testing.T) {
	for _, tc := range []struct {
		name string
		say  func(r *rig)
		want ledger.Answers
		lost uint64
	}{
		{"push", func(r *rig) {
			r.data("*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n")
			r.speaks("*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n")
		}, ledger.Answers{Answered: 1}, 0},
		{"the client's bytes cannot be followed", func(r *rig) {
			r.data("*x\r\n")
			r.speaks(pong)
		}, ledger.Answers{Answered: 1}, 1},
		{"the server's cannot", func(r *rig) {
			r.data(ping)
			r.speaks("?\r\n")
			r.data(ping)
			r.speaks(pong)
		}, ledger.Answers{Answered: 1}, 1},
		{"an answer to nothing", func(r *rig) {
			r.speaks(pong)
			r.speaks(pong)
		}, ledger.Answers{Answered: 2}, 1},
		{"more answers than are kept", func(r *rig) {
			for range maxEnds {
				r.seg(r.next, ping, 0)
				r.speaks(pong)
			}
		}, ledger.Answers{Answered: maxEnds + 1}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := fresh(t, watched(true, redisProtocol),
				func(svc *Service) { svc.MaxBytes = 64 << 20 })
			r.data(ping)
			r.speaks(pong)
			r.sees()
			tc.say(r)
			r.production(tc.want, tc.lost)
			if r.s.server.reads() {
				t.Error("it still reads")
			}
		})
	}
}

// A denied request is answered by production and not by the target. A copy that leaves requests out
// counts production's answers, and is gated by the target's.
func TestProductionOfEdited(t *testing.T) {
	p := httpProtocol
	p.NewClient = func() proto.Client {
		pattern, err := semantics.ParsePattern("GET /secret")
		if err != nil {
			t.Fatal(err)
		}
		return http1.NewEditor(&semantics.Rules{Deny: []semantics.Pattern{pattern}})
	}
	r := fresh(t, watched(true, p))
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	request := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n" }
	r.data(request("/secret"))
	r.speaks(ok)
	r.sees()
	r.data(request("/1"))
	r.takes()
	r.speaks(ok)
	r.sees()
	r.data(request("/2"))
	r.wait(sec)
	r.copied(request("/1"))
	r.ends(5)
	r.copied(request("/1") + request("/2"))
	r.production(ledger.Answers{Answered: 2, Status: statuses(0, 2)}, 0)
}

// A copy that is far behind is gated by what was read, long after production has closed.
func TestProductionBehind(t *testing.T) {
	r := fresh(t, watched(false, httpProtocol))
	const (
		get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
		ok  = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
	)
	r.data(get + get + get)
	for range 3 {
		r.speaks(ok)
		r.sees()
		r.data(get)
	}
	for range 3 {
		r.speaks(ok)
	}
	r.serverFIN()
	r.sees()
	r.fin()
	for n := range 3 {
		r.copied(strings.Repeat(get, 3+n))
		r.takes()
		r.ends(50)
	}
	r.copied(strings.Repeat(get, 6))
	r.production(ledger.Answers{Answered: 6, Status: statuses(0, 6)}, 0)
}

// However requests and answers are cut into packets, it is known for each turn how many answers its
// client had seen.
func TestProductionProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := fresh(t, watched(rapid.Bool().Draw(rt, "certain"), redisProtocol))
		r.data(ping)
		var answers []int // where they end
		sentAnswers := ""
		asked := 1
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			switch rapid.IntRange(0, 3).Draw(rt, "what") {
			case 0: // requests, in one packet or several
				for range rapid.IntRange(1, 3).Draw(rt, "requests") {
					cut := rapid.IntRange(0, len(ping)-1).Draw(rt, "cut")
					if cut > 0 {
						r.data(ping[:cut])
					}
					r.data(ping[cut:])
					asked++
				}
			case 1: // answers, in packets that repeat, overlap, and change their order
				n := min(rapid.IntRange(1, 4).Draw(rt, "answers"), asked-len(answers))
				from := len(sentAnswers)
				for range n {
					sentAnswers += rapid.SampledFrom([]string{pong, "$3\r\nabc\r\n",
						"*2\r\n:1\r\n$-1\r\n", "-ERR no\r\n"}).Draw(rt, "answer")
					answers = append(answers, len(sentAnswers))
				}
				cuts := []int{from, len(sentAnswers)}
				for range rapid.IntRange(0, 4).Draw(rt, "cuts") {
					cuts = append(cuts, rapid.IntRange(from, len(sentAnswers)).Draw(rt, "at"))
				}
				slices.Sort(cuts)
				var pieces [][2]int
				for i := range len(cuts) - 1 {
					pieces = append(pieces,
						[2]int{max(0, cuts[i]-rapid.IntRange(0, 3).Draw(rt, "over")), cuts[i+1]})
				}
				for _, i := range rapid.Permutation(pieces).Draw(rt, "order") {
					r.speaksAt(i[0], sentAnswers[i[0]:i[1]])
				}
				r.sent = len(sentAnswers)
			case 2: // the client has seen some
				r.seen = rapid.IntRange(r.seen, len(sentAnswers)).Draw(rt, "seen")
			case 3:
				r.wait(ms)
			}
			want := uint64(0)
			for _, end := range answers {
				if end <= r.seen {
					want++
				}
			}
			if got, ok := r.s.server.answered(uint64(r.seen), 0); !ok || got != want {
				rt.Fatalf("the client had seen %d bytes and %d answers: %d, %v", r.seen, want, got,
					ok)
			}
		}
		if q := r.count.Requests; q.Production.Answered != uint64(len(answers)) ||
			q.ProductionLost > 0 {
			rt.Fatalf("%d answers: %+v", len(answers), q)
		}
		r.end()
	})
}
