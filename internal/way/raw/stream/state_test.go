package stream

import (
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/proto/http1"
	"tcpcopy/internal/test/rig"
	"tcpcopy/internal/way/link/wire"
)

// table is a table of the package comment: cells by event and state.
type table struct {
	states, events []string
	cells          map[[2]string]string
}

// tables reads the tables of the package comment, so that what it says is what is tested.
func tables(t testing.TB) (all []table) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	columns := regexp.MustCompile(`\s{2,}`)
	var now *table
	for line := range strings.Lines(string(text)) {
		row, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "//\t")
		if !ok {
			now = nil
			continue
		}
		parts := columns.Split(row, -1)
		switch {
		case parts[0] == "event":
			all = append(all, table{states: parts[1:], cells: make(map[[2]string]string)})
			now = &all[len(all)-1]
		case now != nil:
			if len(parts) != 1+len(now.states) {
				t.Fatalf("the row %q has %d cells, wanted %d", row, len(parts)-1, len(now.states))
			}
			now.events = append(now.events, parts[0])
			for i, s := range now.states {
				now.cells[[2]string{parts[0], s}] = parts[1+i]
			}
		}
	}
	if len(all) != 3 {
		t.Fatalf("%d tables in doc.go, wanted 3", len(all))
	}
	return all
}

var stateNames = [...]string{Over: "Over", Failed: "Failed", Queued: "Queued", Opening: "Opening",
	Open: "Open", Shut: "Shut"}

var sendingNames = [...]string{unended: "unended", endWanted: "endWanted", ended: "ended"}

var readNames = [...]string{"Off", "Kept", "Wanted", "Asked", "Based", "Whole", "Settled", "Lost",
	"Told"}

var fakeClient = netip.MustParseAddrPort("192.0.2.1:40000")

// copyFake is the session of a stream.
type copyFake struct {
	st   *Stream
	told []session.EventKind
}

func (c *copyFake) Tell(_ mono.Time, ev session.Event) { c.told = append(c.told, ev.Kind) }
func (c *copyFake) Touch()                             {}
func (c *copyFake) Connection() shard.Tuple {
	return shard.TupleOf(fakeClient,
		rig.Production)
}
func (c *copyFake) Content() bool         { return false }
func (c *copyFake) Behind(mono.Time) bool { return false }
func (c *copyFake) Replace(now mono.Time) { c.st.Abort(now) }

// zeros is a record of any length.
type zeros struct{}

func (zeros) View(_ uint64, max int) []byte { return make([]byte, max) }

// single is one stream in a table, with the target's and the intercepts' words in the test's hand.
type single struct {
	*testing.T
	table  *Table
	now    mono.Time
	before *Stream // that it is queued behind, or was
	st     *Stream
	copy   *copyFake
	said   int // bytes of the target
}

const irs = seqnum.Value(9000) // the target's initial sequence number

func newSingle(t *testing.T) *single {
	s := &single{T: t, table: New(rawConfig()), now: 100 * sec}
	s.table.SetLink(true, 7)
	return s
}

func (s *single) open() *Stream {
	c := &copyFake{}
	c.st = s.table.Open(s.now, &session.OpenSpec{
		ID: 1, Client: netip.MustParseAddrPort(
			"192.0.2.1:40000"), Production: rig.Production, Target: rig.Target,
		SYN: packet.Options{MSS: 1460}, Window: 1000, Since: s.now, Record: zeros{},
	}, c).(*Stream)
	s.st, s.copy = c.st, c
	return c.st
}

// poll has the stream send, and returns what it sends.
func (s *single) poll() []packet.Segment {
	if s.st.state != Over {
		s.st.Poll(s.now)
	}
	return slices.Clone(s.table.Output())
}

// segment has the target send a segment, with what it expects next acknowledged.
func (s *single) segment(flags packet.Flags, seq, ack seqnum.Value, n int) {
	s.table.Segment(s.now, &packet.Segment{
		Src: rig.Target, Dst: s.st.tuple.Client(), Seq: seq, Ack: ack, Flags: flags, Window: 60000,
		Len: n,
	}, false)
}

func (s *single) next() seqnum.Value { return irs + 1 + seqnum.Value(s.said) }

// acked is the number that acknowledges all that was sent.
func (s *single) acked() seqnum.Value {
	n := seqnum.Value(s.st.conn.Status().Sent)
	if s.st.sending == ended {
		n++
	}
	return s.st.isn + 1 + n
}

func (s *single) synAck() { s.segment(packet.SYN|packet.ACK, irs, s.st.isn+1, 0) }
func (s *single) fin()    { s.segment(packet.FIN|packet.ACK, s.next(), s.acked(), 0) }

// reach brings a new stream into a state.
func (s *single) reach(state string) {
	if state == "Failed" {
		s.table.SetLink(false, 7)
	}
	if state == "Queued" {
		s.before = s.open()
		s.poll()
	}
	s.open()
	if state == "Opening" || state == "Open" || state == "Shut" {
		s.poll()
	}
	if state == "Open" || state == "Shut" {
		s.synAck()
		s.poll()
	}
	if state == "Shut" {
		s.fin()
		s.poll()
	}
	s.copy.told = nil
	if got := stateNames[s.st.state]; got != state {
		s.Fatalf("the stream is in %s, wanted %s", got, state)
	}
}

// happen makes events happen.
var happen = map[string]func(s *single){
	"Release":    func(s *single) { s.st.Release(s.now, 100) },
	"CloseWrite": func(s *single) { s.st.CloseWrite(s.now) },
	"Abort":      func(s *single) { s.st.Abort(s.now) },
	"Poll":       func(s *single) { s.st.Poll(s.now) },
	"takeover":   func(s *single) { s.now = s.now.Add(takeover); s.st.Poll(s.now) },
	"first":      func(s *single) { s.before.Abort(s.now); s.table.Output() },
	"SYN-ACK":    (*single).synAck,
	"old ACK":    func(s *single) { s.segment(packet.ACK, 777, s.st.isn+5000, 0) },
	"FIN":        (*single).fin,
	"last FIN":   func(s *single) { s.fin(); s.st.Poll(s.now) },
	"last ACK": func(s *single) {
		s.segment(packet.ACK, s.rcvNext(), s.acked(), 0)
		if s.st.state != Over {
			s.st.Poll(s.now)
		}
	},
	"RST": func(s *single) {
		if s.st.state == Opening {
			s.segment(packet.RST|packet.ACK, 0, s.st.isn+1, 0)
		} else {
			s.segment(packet.RST, s.rcvNext(), 0, 0)
		}
	},
	"silence": func(s *single) {
		for end := s.now + 60*sec; s.st.state != Over && s.now < end; s.now += 100 * ms {
			s.st.Poll(s.now)
		}
	},
	"Taken": func(s *single) { s.table.Taken(s.now, s.st.tuple) },
}

// rcvNext is the sequence number that we expect of the target.
func (s *single) rcvNext() seqnum.Value {
	if s.st.state == Shut {
		return s.next() + 1
	}
	return s.next()
}

// prepare has happened before an event can.
var prepare = map[string]func(s *single){
	"Poll": func(s *single) { s.st.Release(s.now, 100) },
	"last FIN": func(s *single) {
		s.st.CloseWrite(s.now)
		s.poll()
		s.segment(packet.ACK, s.next(), s.acked(), 0)
		s.poll()
		s.copy.told = nil
	},
	"last ACK": func(s *single) { s.st.CloseWrite(s.now); s.poll() },
	"silence": func(s *single) {
		s.st.Release(s.now, 100)
		s.poll()
	},
}

// TestStates drives every cell of the table of a stream's states.
func TestStates(t *testing.T) {
	tab := tables(t)[0]
	for _, event := range tab.events {
		if happen[event] == nil {
			t.Errorf("nothing makes the event %q happen", event)
			continue
		}
		for _, state := range tab.states {
			cell := tab.cells[[2]string{event, state}]
			if cell == "-" {
				continue
			}
			t.Run(event+" in "+state, func(t *testing.T) {
				s := newSingle(t)
				s.reach(state)
				if f := prepare[event]; f != nil {
					f(s)
				}
				s.check(event, state, cell)
			})
		}
	}
	for event := range happen {
		if !slices.Contains(tab.events, event) {
			t.Errorf("the event %q is in no row", event)
		}
	}
}

// told are the session events that a cell can name.
var told = map[string]session.EventKind{
	"Opened": session.Opened, "Shut": session.Shut, "Finished": session.Finished,
	"Reset": session.ResetByPeer, "Failed": session.Failed,
}

// check makes an event happen, and compares what comes of it with the cell.
func (s *single) check(event, state, cell string) {
	tuple := s.st.tuple
	happen[event](s)
	actions, after, moves := strings.Cut(cell, ": ")
	if !moves {
		after = state
	}
	if got := stateNames[s.st.state]; got != after {
		s.Errorf("the state after it is %s, wanted %s", got, after)
	}
	if _, in := s.table.streams[tuple]; in != (s.st.state >= Opening) && s.before == nil {
		s.Errorf("in the table of those that have begun: %v, in state %s", in, after)
	}
	var kinds []session.EventKind
	for _, a := range strings.Split(actions, ", ") {
		if k, ok := told[a]; ok {
			kinds = append(kinds, k)
		}
	}
	heard := slices.DeleteFunc(s.copy.told, func(k session.EventKind) bool {
		return k == session.Taken || k == session.Received
	})
	if !slices.Equal(heard, kinds) {
		s.Errorf("the session was told %v, wanted %v", heard, kinds)
	}
	s.checkAction(actions, event)
}

// checkAction checks that what a cell says was done, or not.
func (s *single) checkAction(action, event string) {
	out := slices.Clone(s.table.Output())
	has := func(f func(*packet.Segment) bool) bool {
		return slices.ContainsFunc(out, func(seg packet.Segment) bool { return f(&seg) })
	}
	switch action {
	case ".", "keep", "remove":
		if action != "." && len(out) > 0 {
			s.Errorf("sent %v", out)
		}
	case "send":
		if len(out) == 0 && s.st.state != Opening {
			s.Error("nothing was sent")
		}
	case "reset":
		if !has(func(seg *packet.Segment) bool { return seg.Flags.Has(packet.RST) }) {
			s.Errorf("sent %v, wanted a reset", out)
		}
	case "begin":
		out = append(out, s.poll()...)
		seeks := s.table.Seeks()
		if !has(func(seg *packet.Segment) bool { return seg.Flags.Has(packet.SYN) }) &&
			len(seeks) == 0 {
			s.Errorf("sent %v, wanted a SYN, or a question whether one may be sent", out)
		}
	case "ask":
		if q := s.table.Queries(); !slices.Contains(q, s.st.tuple) {
			s.Errorf("asked about %v", q)
		}
	case "pass on":
		if s.st.state == Opening {
			s.synAck()
		}
		out = append(out, s.poll()...)
		if !has(func(seg *packet.Segment) bool {
			return seg.Len > 0 && event == "Release" ||
				seg.Flags.Has(packet.FIN) && event == "CloseWrite"
		}) {
			s.Errorf("sent %v", out)
		}
	}
}

// TestSendingStates drives every cell of the table of our own direction.
func TestSendingStates(t *testing.T) {
	tab := tables(t)[1]
	events := map[string]func(s *single){
		"CloseWrite": func(s *single) { s.st.CloseWrite(s.now) },
		"CloseWrite, held": func(s *single) {
			s.table.SetReaders(1)
			s.st.ReadAnswers(http1.Kind)
			s.st.CloseWrite(s.now)
		},
		"begin": func(s *single) { s.before.Abort(s.now) },
		"confirmed": func(s *single) {
			s.table.Found(s.now, []wire.Found{{
				Kind: wire.FoundConfirmed, Tuple: wireTupleOf(s.st), Serial: s.st.reading.serial,
			}})
		},
	}
	for _, event := range tab.events {
		for _, state := range tab.states {
			cell := tab.cells[[2]string{event, state}]
			if cell == "-" {
				continue
			}
			t.Run(event+" in "+state, func(t *testing.T) {
				s := newSingle(t)
				switch {
				case event == "begin":
					s.reach("Queued")
				default:
					s.reach("Opening")
				}
				if event == "confirmed" {
					s.table.SetReaders(1)
					s.st.ReadAnswers(http1.Kind)
				}
				if state == "endWanted" {
					s.st.CloseWrite(s.now)
				}
				if got := sendingNames[s.st.sending]; got != state {
					t.Fatalf("our direction is in %s", got)
				}
				events[event](s)
				if cell == "." {
					cell = state
				}
				if got := sendingNames[s.st.sending]; got != cell {
					t.Errorf("our direction is in %s after it, wanted %s", got, cell)
				}
			})
		}
	}
}

func wireTupleOf(st *Stream) wire.Tuple {
	return wire.Tuple{Client: st.tuple.Client(), Target: st.tuple.Server()}
}

// keep has the intercepts keep what the target says first.
func (s *single) keep() {
	s.table.keepers[rig.Target] = keeper{}
}

// confirm has intercepts confirm what they were told last, all but those left.
func (s *single) confirm(whole bool, left int) {
	serial := s.st.reading.serial
	for s.st.reading.left > left && s.st.reading.serial == serial {
		s.table.Found(s.now, []wire.Found{{
			Kind: wire.FoundConfirmed, Tuple: wireTupleOf(
				s.st), Serial: s.st.reading.serial, Whole: whole,
		}})
	}
}

// say has the target send data.
func (s *single) say() {
	s.segment(packet.ACK, s.next(), s.acked(), 10)
	s.said += 10
}

// reachReading brings the reading of a new stream into a state.
func (s *single) reachReading(state, event string) {
	s.table.SetReaders(2)
	switch {
	case state == "Wanted", strings.HasPrefix(event, "begin"), event == "read, queued":
		s.reach("Queued")
		if state == "Lost" {
			s.table.SetReaders(0)
		}
		if state != "Off" {
			s.st.ReadAnswers(http1.Kind)
		}
		return
	case state == "Off":
		s.reach("Opening")
		return
	case state == "Kept":
		s.keep()
		s.reach("Opening")
		return
	case state == "Lost", state == "Told":
		s.table.SetReaders(0)
		s.reach("Opening")
		s.st.ReadAnswers(http1.Kind)
		if state == "Told" {
			s.poll()
		}
		return
	}
	s.reach("Opening")
	if state == "Based" {
		s.synAck()
	}
	s.st.ReadAnswers(http1.Kind)
	switch state {
	case "Whole":
		s.confirm(true, 1)
	case "Settled":
		s.confirm(false, 0)
		s.st.Expect(1, 1) // so that a confirmation is awaited
	}
}

// happenReading makes events happen.
var happenReading = map[string]func(s *single){
	"begin":         func(s *single) { s.before.Abort(s.now) },
	"begin, keeps":  func(s *single) { s.keep(); s.before.Abort(s.now) },
	"begin, nobody": func(s *single) { s.table.SetReaders(0); s.before.Abort(s.now) },
	"read":          func(s *single) { s.st.ReadAnswers(http1.Kind) },
	"read, queued":  func(s *single) { s.st.ReadAnswers(http1.Kind) },
	"read, late":    func(s *single) { s.synAck(); s.say(); s.st.ReadAnswers(http1.Kind) },
	"read, nobody":  func(s *single) { s.table.readers = 0; s.st.ReadAnswers(http1.Kind) },
	"Expect":        func(s *single) { s.st.Expect(2, 1) },
	"confirm":       func(s *single) { s.confirm(false, 1) },
	"confirm whole": func(s *single) { s.confirm(true, 1) },
	"all":           func(s *single) { s.confirm(false, 0) },
	"all, SYN-ACK":  func(s *single) { s.synAck(); s.confirm(false, 0) },
	"all, data":     func(s *single) { s.synAck(); s.say(); s.confirm(false, 0) },
	"lost": func(s *single) {
		s.table.Found(s.now, []wire.Found{{Kind: wire.FoundLost, Tuple: wireTupleOf(s.st)}})
	},
	"no word":    func(s *single) { s.now = s.now.Add(confirmLimit); s.st.Poll(s.now) },
	"SetReaders": func(s *single) { s.table.SetReaders(2) },
	"Poll":       func(s *single) { s.st.Poll(s.now) },
}

// TestReadStates drives every cell of the table of a reading's states.
func TestReadStates(t *testing.T) {
	tab := tables(t)[2]
	for _, event := range tab.events {
		if happenReading[event] == nil {
			t.Errorf("nothing makes the event %q happen", event)
			continue
		}
		for _, state := range tab.states {
			cell := tab.cells[[2]string{event, state}]
			if cell == "-" {
				continue
			}
			t.Run(event+" in "+state, func(t *testing.T) {
				s := newSingle(t)
				s.reachReading(state, event)
				if got := readNames[s.st.reading.state]; got != state {
					t.Fatalf("the reading is in %s", got)
				}
				happenReading[event](s)
				want := cell
				if want == "." {
					want = state
				} else if want == "Asked" && s.st.reading.baseKnown {
					want = "Based"
				}
				if got := readNames[s.st.reading.state]; got != want {
					t.Errorf("the reading is in %s after it, wanted %s", got, want)
				}
			})
		}
	}
	for event := range happenReading {
		if !slices.Contains(tab.events, event) {
			t.Errorf("the event %q is in no row", event)
		}
	}
}
