package session

import (
	"testing"
	"time"

	"tcpcopy/internal/core/gate"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
	"tcpcopy/internal/proto/websocket"
)

// The handshake of the tests, and frames: the client's have the mask 0.
const (
	wsAsks = "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
	wsAccepts = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n" +
		"Connection: Upgrade\r\n\r\n"
	wsA    = "\x81\x81\x00\x00\x00\x00a"
	wsB    = "\x81\x81\x00\x00\x00\x00b"
	wsPong = "\x8a\x80\x00\x00\x00\x00"
	wsX    = "\x81\x01x"
)

func inMessages(svc *Service) {
	svc.Protocols = []proto.Protocol{*websocket.Protocol, *http1.Protocol}
	svc.Certain = false
	svc.Production = true
	svc.Gate = gate.NewService(gate.Config{Limit: 30 * time.Second})
}

// serves has the server send text, which the client has seen when it sends its next bytes.
func (r *rig) serves(text string) {
	r.Helper()
	r.speaks(text)
	r.sees()
}

// Turns go by messages, in lock-step; once production pushes, they go a second late at most.
func TestPaced(t *testing.T) {
	r := fresh(t, inMessages)
	r.data(wsAsks)
	r.copied(wsAsks)
	r.takes()
	r.serves(wsAccepts)
	r.data(wsA)
	r.copied(wsAsks)
	r.tells(wsAccepts)
	r.copied(wsAsks + wsA)
	r.takes()
	r.serves(wsX)
	r.data(wsPong + wsB)
	r.wait(20 * sec)
	r.copied(wsAsks + wsA)
	if !r.s.Busy() {
		t.Error("a turn waits, and the session is not busy")
	}
	r.tells("\x81\x01x")
	r.copied(wsAsks + wsA + wsB)

	r.serves(wsX + wsX + wsX)
	r.data(wsA)
	r.copied(wsAsks + wsA + wsB)
	r.wait(999 * ms)
	r.copied(wsAsks + wsA + wsB)
	r.wait(ms)
	r.copied(wsAsks + wsA + wsB + wsA)
	r.takes()
	sent := uint64(len(wsAsks+wsPong) + 3*len(wsA))
	r.bytes(sent, ledger.None, sent)
	want := ledger.Requests{Sent: 1}
	want.Answered = 1
	class := websocket.Protocol.Class(&proto.Answer{Status: 101})
	want.Status[class] = 1
	want.Production.Answered, want.Production.Status[class] = 1, 1
	r.requests(want)
	r.fin()
	r.state(Closing)
	r.finishes()
	r.ended(false, ledger.None)
}

// A target that refuses the upgrade ends the copy by name.
func TestPacedRefused(t *testing.T) {
	r := fresh(t, inMessages)
	r.data(wsAsks)
	r.takes()
	r.serves(wsAccepts)
	r.tells("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
	r.data(wsA)
	r.state(Refused)
	r.data(wsB)
	r.copies(1)
}

// A request line whose headers have not come yet is one of HTTP/1, or of WebSocket.
func TestRecognisedLater(t *testing.T) {
	for _, whole := range []bool{false, true} {
		r := fresh(t, inMessages)
		r.data(wsAsks[:30])
		r.copied("")
		if whole {
			r.data(wsAsks[30:])
		} else {
			r.wait(sec)
		}
		want := websocket.Protocol.Name
		if !whole {
			want = http1.Protocol.Name
		}
		if r.s.talk == nil || r.s.talk.protocol == nil || r.s.talk.protocol.Name != want {
			t.Errorf("whole: %v: not recognised as %s", whole, want)
		}
	}
}

// Where no turn is to wait, none does, but for the target's acceptance.
func TestPacedFree(t *testing.T) {
	r := fresh(t, inMessages, func(svc *Service) {
		svc.Gate = gate.NewService(gate.Config{Mode: gate.None, Limit: time.Second})
	})
	r.data(wsAsks)
	r.takes()
	r.serves(wsAccepts)
	r.data(wsA)
	r.serves(wsX)
	r.data(wsB)
	r.serves(wsX)
	r.data(wsA)
	r.copied(wsAsks)
	r.tells(wsAccepts)
	r.copied(wsAsks + wsA + wsB + wsA)
	r.takes()
	if n := r.count.GateForced; n != 0 {
		t.Errorf("%d turns were forced", n)
	}
}
