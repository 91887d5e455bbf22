package websocket

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
)

// The handshake of the tests, and its answers.
const (
	asks = "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
	accepts = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
	refuses = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
)

// accepting returns an answer that accepts the upgrade, with extensions.
func accepting(extensions string) string {
	return strings.Replace(accepts, "\r\n\r\n", "\r\nSec-WebSocket-Extensions: "+extensions+
		"\r\n\r\n", 1)
}

// byClient returns a client's frame. first is its first byte.
func byClient(first byte, payload string) string {
	p := appendFrame(nil, 0, [4]byte{1, 2, 3, 4}, []byte(payload))
	p[0] = first
	return string(p)
}

// text returns a client's message, says a server's.
func text(s string) string { return byClient(bitFin|opText, s) }

func byServer(first byte, payload string) string {
	if len(payload) > maxControl {
		return string([]byte{first, 126, byte(len(payload) >> 8), byte(len(payload))}) + payload
	}
	return string([]byte{first, byte(len(payload))}) + payload
}

func says(s string) string { return byServer(bitFin|opText, s) }

// rig is a client whose copy is a Client, production's server, and a target.
type rig struct {
	t        *testing.T
	c        *Client
	follower proto.Follower
	scratch  []proto.Answer
	step     int // how many bytes a reader gets at once; 0: all
	now      mono.Time
	wake     mono.Time
	served   uint64 // bytes of production
	fed      []byte // the client's bytes
	settled  int    // those of them that are in a step
	left     map[ledger.Reason]int
	sent     []byte // to the target
	read     int    // how much of it was looked at
	log      []string
	heard    uint64
}

func newRig(t *testing.T, step int) *rig {
	r := &rig{t: t, c: NewClient(nil), step: step, left: map[ledger.Reason]int{}}
	r.begin(false)
	return r
}

// upgraded returns a rig whose client, production and target have agreed on WebSocket.
func upgraded(t *testing.T, step int) *rig {
	r := newRig(t, step)
	r.feed(asks)
	r.serve(accepts)
	r.hear(accepts)
	r.wants(asks)
	return r
}

func (r *rig) begin(adopted bool) {
	r.follower = proto.Follow(NewAnswers())
	var out proto.Out
	if err := r.c.Begin(adopted, &out); err != nil {
		r.t.Fatal(err)
	}
	r.carryOut(&out)
}

// feed hands over a turn of the client, which has seen all of production that was served.
func (r *rig) feed(p string) {
	r.t.Helper()
	if err := r.tryFeed(p); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) tryFeed(p string) error {
	r.c.Turn(r.now)
	return r.parts(p, func(p []byte) error {
		var out proto.Out
		r.fed = append(r.fed, p...)
		err := r.c.Feed(p, r.served, &out)
		r.carryOut(&out)
		return err
	})
}

// serve has production's server send bytes.
func (r *rig) serve(p string) {
	r.parts(p, func(p []byte) error {
		r.c.Server(r.served, p)
		r.served += uint64(len(p))
		return nil
	})
}

// hear hands over bytes of the target.
func (r *rig) hear(p string) {
	r.t.Helper()
	if err := r.tryHear(p); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) tryHear(p string) error {
	return r.parts(p, func(p []byte) error {
		r.heard += uint64(len(p))
		for _, told := range r.follower.Feed(r.now, p, nil, &r.scratch) {
			if len(told.Bytes) == 0 {
				return fmt.Errorf("an answer of its own: %+v", told)
			}
			var out proto.Out
			err := r.c.Kept(told.Bytes, &out)
			r.carryOut(&out)
			if err != nil {
				return err
			}
		}
		if r.follower.Lost() {
			return fmt.Errorf("%w: by the reader of answers", proto.ErrLost)
		}
		return nil
	})
}

// parts calls f for parts of p, and after each what a session calls.
func (r *rig) parts(p string, f func([]byte) error) error {
	for len(p) > 0 {
		n := len(p)
		if r.step > 0 {
			n = min(n, r.step)
		}
		if err := f([]byte(p[:n])); err != nil {
			return err
		}
		r.goes()
		p = p[n:]
	}
	return nil
}

// goes has the copy send what may go.
func (r *rig) goes() {
	var out proto.Out
	r.wake = r.c.Go(r.now, &out)
	r.carryOut(&out)
}

// wait lets time pass.
func (r *rig) wait(d time.Duration) {
	r.now = r.now.Add(d)
	r.goes()
}

// carryOut does what a session does with steps.
func (r *rig) carryOut(out *proto.Out) {
	r.t.Helper()
	for i := range out.Steps {
		switch st := &out.Steps[i]; st.Kind {
		case proto.PassOn:
			r.sent = append(r.sent, r.fed[r.settled:][:st.N]...)
			r.settled += st.N
		case proto.Say:
			r.sent = append(r.sent, out.Text[st.From:st.To]...)
			r.settled += st.N
		case proto.LeaveOut:
			r.settled += st.N
			r.left[st.Reason] += st.N
		case proto.Requested:
			if st.Request.Hint != 0 {
				r.follower.Expect(st.Request.Number, st.Request.Hint)
			}
			r.log = append(r.log, fmt.Sprintf("request %d %v", st.Request.Number,
				st.Request.Whole))
		case proto.Refused:
			r.log = append(r.log, "refused "+st.Reason.String())
		case proto.Answered:
			r.log = append(r.log, fmt.Sprintf("answer %d %d", st.Request.Number,
				st.Answer.Status))
		}
	}
	if r.settled > len(r.fed) {
		r.t.Fatalf("steps take %d bytes of %d", r.settled, len(r.fed))
	}
}

// take returns what the target has received since the last call.
func (r *rig) take() string {
	p := string(r.sent[r.read:])
	r.read = len(r.sent)
	return p
}

// wants checks what the target has received since the last call.
func (r *rig) wants(want string) {
	r.t.Helper()
	if got := r.take(); got != want {
		r.t.Errorf("the target has received %q, wanted %q", got, want)
	}
}

// frames returns what the target has received as "OPCODE payload".
func (r *rig) frames() (all []string) {
	r.t.Helper()
	p := []byte(r.take())
	for len(p) > 0 {
		var h headers
		var f frame
		n, ok := h.next(p, &f)
		if !ok || f.check(true) != nil || uint64(len(p)-n) < f.length {
			r.t.Fatalf("the target cannot read %q", p)
		}
		payload := p[n:][:f.length]
		unmask(payload, f.mask, 0)
		all = append(all, fmt.Sprintf("%d %s", f.op, payload))
		p = p[n:][f.length:]
	}
	return all
}

// wantsFrames checks the frames that the target has received.
func (r *rig) wantsFrames(want ...string) {
	r.t.Helper()
	if got := r.frames(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		r.t.Errorf("the target has received %q, wanted %q", got, want)
	}
}

// wantsLog checks what was noted.
func (r *rig) wantsLog(want ...string) {
	r.t.Helper()
	if strings.Join(r.log, "\n") != strings.Join(want, "\n") {
		r.t.Errorf("noted %q, wanted %q", r.log, want)
	}
}

// ended checks that every byte of the client is in a step, and all of the target's were read.
func (r *rig) ended() {
	r.t.Helper()
	if r.settled != len(r.fed) || r.c.Waits() || r.c.held != 0 || r.c.Heard() != r.heard {
		r.t.Errorf("steps took %d bytes of %d, %d are held; %d of %d of the target's were read",
			r.settled, len(r.fed), r.c.held, r.c.Heard(), r.heard)
	}
}

// reasonOf returns the reason for which an error ends the copy; "lost" for none.
func reasonOf(err error) string {
	var refusal *proto.Refusal
	switch {
	case errors.As(err, &refusal):
		return refusal.Reason.String()
	case errors.Is(err, proto.ErrLost):
		return "lost"
	}
	return fmt.Sprint(err)
}

// eachStep runs f with readers that get all bytes at once, and some at a time.
func eachStep(t *testing.T, f func(t *testing.T, step int)) {
	for _, step := range []int{0, 1, 2, 7} {
		t.Run(fmt.Sprint(step), func(t *testing.T) { f(t, step) })
	}
}
