package session

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/proto"
)

// loggedIn returns a copy with a protocol that edits, after its login.
func loggedIn(t *testing.T) *rig {
	r := newRig(t, spoken(true, newLogins))
	r.syn()
	r.opened()
	r.tells("hello\n")
	r.copied("login ours\n")
	r.takes()
	r.tells("ok\n")
	return r
}

func TestEditsLogin(t *testing.T) {
	r := newRig(t, spoken(true, newLogins))
	r.syn()
	r.data("login theirs\nfirst\n")
	r.opened()
	r.copied("") // the target has said nothing
	r.tells("hel")
	r.tells("lo\n")
	r.copied("login ours\n")
	r.takes()
	r.bytes(19, ledger.None, 0) // it stands for none of the client's
	r.tells("ok\n")
	r.copied("login ours\nfirst\n")
	r.takes()
	r.bytes(19, ledger.None, 19)
	r.requests(ledger.Requests{Sent: 1})
}

func TestEditsLines(t *testing.T) {
	r := loggedIn(t)
	r.data("a\nb\nsecret 1\nsecret")
	r.copied("login ours\nalpha\nb\n")
	r.bytes(19, ledger.None, 0)
	r.stream().taken = len("login ours\nalp")
	r.event(Event{Kind: Taken, N: uint64(r.stream().taken)})
	r.bytes(19, ledger.None, 0) // the rest of what stands for them is to go
	r.takes()
	r.bytes(19, ledger.None, 4)
	r.bytes(19, ledger.Filtered, 9)
	r.data(" 2\nc\n")
	r.bytes(24, ledger.Filtered, 18)
	r.copied("login ours\nalpha\nb\nc\n")
	r.takes()
	r.bytes(24, ledger.None, 6)
	want := ledger.Requests{Sent: 3, Rewritten: 1}
	want.Drop(ledger.Filtered)
	want.Drop(ledger.Filtered)
	r.requests(want)
	// Each request that was sent is answered, and no other.
	r.answers(10)
	r.data("d\n")
	r.ends(4)
	r.ends(4)
	r.copied("login ours\nalpha\nb\nc\n")
	r.ends(4)
	r.copied("login ours\nalpha\nb\nc\nd\n")
}

// Lines that are not edited pass unchanged, however they are cut into packets.
func TestEditsPassThrough(t *testing.T) {
	r := loggedIn(t)
	r.data("a long")
	r.copied("login ours\n")
	r.data(" line\nand ")
	r.copied("login ours\na long line\n")
	r.data("more\n")
	r.copied("login ours\na long line\nand more\n")
	r.takes()
	r.bytes(21, ledger.None, 21)
	r.requests(ledger.Requests{Sent: 2})
}

func TestEditsEnd(t *testing.T) {
	for _, denied := range []bool{false, true} {
		r := loggedIn(t)
		r.data("one\n")
		r.takes()
		r.ends(3)
		r.answers(3)
		n := uint64(4)
		if denied {
			r.data("secret\n")
			n += 7
		}
		r.fin()
		if !r.stream().shut {
			t.Fatal("the client has ended, and the copy goes on")
		}
		r.serverFIN()
		r.targetShuts()
		r.finishes()
		r.ended(false, ledger.None)
		r.bytes(n, ledger.None, 4)
		r.bytes(n, ledger.Filtered, n-4)
	}
}

func TestEditsIdle(t *testing.T) {
	r := loggedIn(t)
	r.data("one\nsecret\n")
	r.takes()
	r.ends(3)
	r.wait(130 * sec)
	r.ended(true, ledger.None)
}

func TestEditsHeldTooLong(t *testing.T) {
	r := newRig(t, spoken(true, newLogins))
	r.syn()
	r.opened()
	r.data("first\n")
	r.wait(10 * sec)
	if !r.stream().aborted {
		t.Error("a login without an end holds the copy for ever")
	}
	r.sessions(1, ledger.GateTimeout, 1)
}

func TestEditsLost(t *testing.T) {
	lose := map[string]func(*rig){
		"by the client's bytes": func(r *rig) { r.data("bad\n") },
		"by the target's":       func(r *rig) { r.event(Event{Kind: AnswersLost}) },
		"by what was asked for": func(r *rig) { r.tells("who?\n") },
	}
	for name, f := range lose {
		t.Run(name, func(t *testing.T) {
			r := loggedIn(t)
			r.data("one\n")
			r.takes()
			r.ends(3)
			r.answers(3)
			f(r)
			if !r.stream().aborted {
				t.Error("the copy goes on")
			}
			r.sessions(1, ledger.ProtoLost, 1)
			r.answers(3)
			r.data("at once\n")
			r.copies(1)
			r.wait(2 * sec)
			r.answers(3)
			r.data("later\n")
			r.copies(2)
			r.opened()
			r.tells("hello\n")
			r.takes()
			r.tells("ok\n")
			r.copied("login ours\nlater\n")
		})
	}
}

func TestEditsBroken(t *testing.T) {
	r := loggedIn(t)
	r.data("one\na\n")
	r.takes()
	r.bytes(6, ledger.None, 6)
	r.targetResets(len("login ours\none\n"))
	r.sessions(1, ledger.TargetReset, 1)
	// "alpha" was not acknowledged. How many of the client's bytes it stood for is no longer known,
	// but not more than there were.
	r.bytes(6, ledger.TargetReset, 6)
}

func TestEditsDeafStream(t *testing.T) {
	r := newRig(t, spoken(true, newLogins))
	r.deaf = true
	r.syn()
	r.data("one\n")
	r.answers(3)
	r.data("two\n")
	r.copies(1)
	if !r.stream().aborted || r.stream().text != "" {
		t.Error("a copy that cannot log in goes on")
	}
	r.sessions(1, ledger.ProtoLost, 1)
}

// A protocol that edits gets the production server's bytes as far as they were captured, before and
// after the copy begins.
func TestEditsServer(t *testing.T) {
	r := newRig(t, spoken(true, newLogins))
	r.syn()
	say := func(text string, n int) {
		r.fromServer(packet.Segment{Seq: r.irs.Add(1 + r.sent), Ack: r.isn.Add(1 + r.next),
			Flags: packet.ACK, Len: n, Payload: []byte(text)})
		r.sent += n
	}
	say("hello", 1000)
	say("x", 1)
	want := []string{"0 hello", "1000 x"}
	if got := r.s.talk.client.(*logins).heard; !reflect.DeepEqual(got, want) {
		t.Errorf("heard %q, wanted %q", got, want)
	}
}

func TestGreetingIsHeard(t *testing.T) {
	svc := func(svc *Service) {
		spoken(false, newLogins)(svc)
		svc.Protocols[0].Recognise = func(client, server []byte) proto.Verdict {
			if string(server) == "hello, world" && len(client) > 0 {
				return proto.Yes
			}
			return proto.No
		}
	}
	r := newRig(t, svc)
	r.syn()
	r.opened()
	for _, p := range []string{"hello", ", world"} {
		r.fromServer(packet.Segment{Seq: r.irs.Add(1 + r.sent), Ack: r.isn + 1, Flags: packet.ACK,
			Len: len(p), Payload: []byte(p)})
		r.sent += len(p)
	}
	r.seen = r.sent
	r.data("login theirs\none\n")
	r.tells("hello\n")
	r.tells("ok\n")
	r.copied("login ours\none\n")
	if got, want := r.s.talk.client.(*logins).heard,
		[]string{"0 hello, world"}; !reflect.DeepEqual(got, want) {
		t.Errorf("heard %q, wanted %q", got, want)
	}
}

// Bytes that a protocol has not consumed when it begins to hold are handed to it again. Their turn
// counts once.
func TestEditsHeldBack(t *testing.T) {
	r := loggedIn(t)
	r.data("one\nwait\ntwo\n")
	r.copied("login ours\none\n")
	if !r.s.talk.holds() {
		t.Fatal("does not hold")
	}
	r.tells("go\n")
	r.copied("login ours\none\nwait\ntwo\n")
	r.takes()
	r.bytes(13, ledger.None, 13)
	r.requests(ledger.Requests{Sent: 3})

	r = loggedIn(t)
	r.data("wait\n")
	r.tells("go\n")
	r.copied("login ours\nwait\n")
	if r.count.Turns != 1 {
		t.Errorf("%d turns, want 1", r.count.Turns)
	}
}

// A protocol's packet may begin like a TLS record.
func TestEditsWhatLooksLikeTLS(t *testing.T) {
	r := loggedIn(t)
	const line = "\x16\x03\x01\x00\x05\x01 and so on\n"
	r.data(line)
	r.copied("login ours\n" + line)
}

// A copy ends for a reason of its protocol. It is the last one if another could not do better.
func TestEditsRefused(t *testing.T) {
	for _, final := range []bool{false, true} {
		r := newRig(t, spoken(true, newLogins))
		r.syn()
		r.data("first\n")
		r.opened()
		r.tells("hello\n")
		if final {
			r.tells("never\n")
		} else {
			r.tells("no\n")
		}
		if !r.stream().aborted {
			t.Error("the copy goes on")
		}
		r.bytes(6, loginFailed, 6)
		var want ledger.Requests
		state := Watching
		if final {
			state = Refused
			want.Refuse(errorDenied)
		} else {
			want.Refuse(errorBusy)
		}
		if got := r.count.Requests.Refused; got != want.Refused || r.s.State() != state ||
			r.count.ProtoLost > 0 {
			t.Errorf("refused %v, state %d; want %v, %d", got, r.s.State(), want.Refused, state)
		}
	}
}

// However the client's bytes are cut, and however many bytes the stream takes at a time, the target
// gets what the protocol makes of them, and every byte of the client is accounted for once.
func TestEditsAnyCut(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := loggedIn(t)
		defer r.end()
		lines := rapid.SliceOfN(rapid.SampledFrom([]string{"a\n", "b\n", "secret\n", "login x\n",
			"a long one\n"}), 1, 20).Draw(rt, "lines")
		text, want := strings.Join(lines, ""), "login ours\n"
		var denied, passed int
		for _, l := range lines {
			switch l {
			case "a\n":
				want += "alpha\n"
				passed += len(l)
			case "secret\n":
				denied += len(l)
			case "login x\n":
				passed += len(l)
			default:
				want += l
				passed += len(l)
			}
		}
		for off := 0; off < len(text); {
			n := rapid.IntRange(1, len(text)-off).Draw(rt, "n")
			r.data(text[off : off+n])
			off += n
			f := r.stream()
			if more := rapid.IntRange(0, len(f.text)-f.taken).Draw(rt, "taken"); more > 0 {
				f.taken += more
				r.event(Event{Kind: Taken, N: uint64(f.taken)})
			}
		}
		r.copied(want)
		if f := r.stream(); f.taken < len(f.text) {
			r.takes()
		}
		r.bytes(uint64(len(text)), ledger.None, uint64(passed))
		r.bytes(uint64(len(text)), ledger.Filtered, uint64(denied))
	})
}
