package socket

import (
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"

	"tcpcopy/internal/core/session"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
)

// listening is a stream whose answers will be read.
func listening(spec *session.OpenSpec) { spec.Listen = true }

func (c *played) read(kind proto.Kind) {
	c.p.in(func() { c.stream.(session.AnswerReader).ReadAnswers(kind) })
}

func (c *played) expect(request uint64, h proto.Hint) {
	c.p.in(func() { c.stream.(session.AnswerReader).Expect(request, h) })
}

// found lists what was found of the answers, and how much had been received by then.
func (c *played) found() (list []string) {
	var received uint64
	for _, ev := range c.all() {
		switch ev.Kind {
		case session.Received:
			received = ev.N
		case session.AnswerEnd:
			s := fmt.Sprintf("%d at %d", ev.Answer.Status, ev.Answer.End)
			if ev.Answer.End > received {
				s += ", before it was received"
			}
			if ev.First > ev.At {
				s += ", begun after its end"
			}
			list = append(list, s)
		case session.AnswersLost:
			list = append(list, "lost")
		}
	}
	return list
}

const okay = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

// speaker writes a text each time it is told to.
func speaker(t *testing.T) (host string, say func(string), serve func(*net.TCPConn)) {
	lines := make(chan string, 8)
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	return "127.0.0.1", func(s string) {
			select {
			case lines <- s:
			case <-done:
			}
		}, func(c *net.TCPConn) {
			for {
				select {
				case s := <-lines:
					if s == "" {
						_ = c.CloseWrite()
						_, _ = io.Copy(io.Discard, c)
						return
					}
					_, _ = c.Write([]byte(s))
				case <-done:
					return
				}
			}
		}
}

func TestAnswersAreRead(t *testing.T) {
	big := "HTTP/1.1 404 Not Found\r\nContent-Length: 3000000\r\n\r\n" + strings.Repeat("x",
		3000000)
	for _, c := range []struct {
		name  string
		kind  proto.Kind
		hints []uint64 // requests that are HEAD
		text  []string // "": the end
		want  []string
	}{
		{"one", http1.Kind, nil, []string{okay}, []string{"200 at 40"}},
		{"several at once", http1.Kind, nil, []string{okay + okay},
			[]string{"200 at 40", "200 at 80"}},
		{"in pieces", http1.Kind, nil, []string{okay[:7], okay[7:39], okay[39:] + okay},
			[]string{"200 at 40", "200 at 80"}},
		{"larger than what is read at once", http1.Kind, nil, []string{big + okay},
			[]string{"404 at 3000051", "200 at 3000091"}},
		{"to the end", http1.Kind, nil, []string{"HTTP/1.1 200 OK\r\n\r\nand so on", ""},
			[]string{"200 at 28"}},
		{"with a hint", http1.Kind, []uint64{1}, []string{okay + okay[:38] + okay},
			[]string{"200 at 40", "200 at 78", "200 at 118"}},
		{"no HTTP", http1.Kind, nil, []string{okay + "220 smtp\r\n"},
			[]string{"200 at 40", "lost"}},
		{"a kind that is not known here", 99, nil, []string{okay}, []string{"lost"}},
		{"none", proto.None, nil, []string{okay}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, say, speak := speaker(t)
			s := play(t, Config{}).open(1, serve(t, host, speak), []byte("GET"), 0, listening)
			s.wait(session.Opened)
			s.read(c.kind)
			for _, n := range c.hints {
				s.expect(n, 1)
			}
			s.release(3)
			for _, text := range c.text {
				say(text)
			}
			say("")
			s.wait(session.Shut)
			if got := s.found(); !reflect.DeepEqual(got, c.want) {
				t.Errorf("found %q, wanted %q", got, c.want)
			}
		})
	}
}

// A target that speaks before the protocol is known, because it greets or because somebody took
// his time.
func TestAnswersBeforeTheyAreRead(t *testing.T) {
	long := strings.Repeat("x", earlyMost)
	for _, c := range []struct {
		name        string
		early, late string
		listen      bool
		want        []string
	}{
		{"an answer", okay, "", true, []string{"200 at 40"}},
		{"half of one", okay[:20], okay[20:], true, []string{"200 at 40"}},
		{"more than is kept", "HTTP/1.1 200 OK\r\nA: " + long + "\r\n", "\r\n", true,
			[]string{"lost"}},
		{"nobody listened", okay, okay, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, say, speak := speaker(t)
			change := listening
			if !c.listen {
				change = func(*session.OpenSpec) {}
			}
			s := play(t, Config{}).open(1, serve(t, host, speak), []byte("GET"), 0, change)
			say(c.early)
			s.waitN(session.Received, len(c.early))
			s.read(http1.Kind)
			s.release(3)
			if c.late != "" {
				say(c.late)
			}
			say("")
			s.wait(session.Shut)
			if got := s.found(); !reflect.DeepEqual(got, c.want) {
				t.Errorf("found %q, wanted %q", got, c.want)
			}
		})
	}
}

// What came before is looked at though nothing is sent, and nothing more comes.
func TestAnswersBeforeTheyAreReadAlone(t *testing.T) {
	host, say, speak := speaker(t)
	s := play(t, Config{}).open(1, serve(t, host, speak), []byte("GET"), 0, listening)
	say(okay)
	s.waitN(session.Received, len(okay))
	s.read(http1.Kind)
	s.until("answer", func(ev session.Event) bool {
		return ev.Kind == session.AnswerEnd && ev.Answer.Status == 200
	})
	s.release(3)
	say("")
	s.wait(session.Shut)
}

// What is expected of an answer is known before it is read, though the poller is woken by the one
// before.
func TestExpectIsInTime(t *testing.T) {
	const rounds = 300
	target := serve(t, "127.0.0.1", func(c *net.TCPConn) {
		b := make([]byte, 1)
		for i := range rounds {
			if _, err := c.Read(b); err != nil {
				return
			}
			text := okay
			if i%2 == 1 {
				text = okay[:38] // to HEAD
			}
			_, _ = c.Write([]byte(text))
		}
	})
	s := play(t, Config{}).open(1, target, pattern(rounds), 0, listening)
	s.read(http1.Kind)
	var end uint64
	for i := range rounds {
		if i%2 == 1 {
			s.expect(uint64(i), 1)
			end += 38
		} else {
			end += 40
		}
		s.release(i + 1)
		s.until("answer", func(ev session.Event) bool {
			return ev.Kind == session.AnswerEnd && ev.Answer.End == end
		})
	}
}
