package e2e

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	"tcpcopy/internal/core/chunk"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/reasm"
	"tcpcopy/internal/lab/netlab"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/afpacket"
	"tcpcopy/internal/source/filter"
)

// sqlPackets cuts one direction into packets, by their lengths alone.
type sqlPackets struct {
	header []byte
	left   int
	inside bool // a packet has begun, and is not over
	more   bool // the next one continues the one before
	first  byte // of the payload
	fresh  bool // that byte is still to come
}

// read calls begin where a packet's header is there, and end where its last byte is.
func (k *sqlPackets) read(p []byte, begin func(number byte, continues bool), end func()) {
	for len(p) > 0 {
		if len(k.header) < 4 {
			n := min(4-len(k.header), len(p))
			k.header, p = append(k.header, p[:n]...), p[n:]
			if k.inside = true; len(k.header) < 4 {
				return
			}
			k.left = int(k.header[0]) | int(k.header[1])<<8 | int(k.header[2])<<16
			k.fresh = !k.more
			begin(k.header[3], k.more)
			k.more = k.left == 1<<24-1
		}
		n := min(k.left, len(p))
		if k.fresh && n > 0 {
			k.first, k.fresh = p[0], false
		}
		k.left, p = k.left-n, p[n:]
		if k.left == 0 {
			k.header, k.inside = k.header[:0], false
			end()
		}
	}
}

// sqlWire judges a connection at its server by the numbers of packets, which go on from a command
// through all of its answer: it knows neither what answers consist of nor what the copier thinks of
// them.
type sqlWire struct {
	client, server sqlPackets

	login    bool // is over
	next     byte // the number of the next packet
	command  byte // the last one's first byte
	waiting  bool // no packet of its answer has come
	counted  bool // it is early, and that has been counted
	commands int
	answered int // whose answer has begun
	early    int // that came before the answer to the one before had ended
	astray   int // packets of a number that nothing explains
}

func (w *sqlWire) tooEarly() {
	if !w.counted {
		w.counted = true
		w.early++
	}
}

// say takes what has reached the server.
func (w *sqlWire) say(p []byte) {
	w.client.read(p, func(number byte, continues bool) {
		switch {
		case number == 0 && !continues:
			w.login, w.counted = true, false
			w.commands++
			if w.waiting || w.server.inside {
				w.tooEarly()
			}
			w.waiting, w.next = true, 0
		case number != w.next:
			w.astray++
		}
		w.next = number + 1
	}, func() {
		switch w.command = w.client.first; {
		case w.next != 1: // a later packet of a dialogue
		case w.command == mysql.COM_STMT_CLOSE, w.command == mysql.COM_STMT_SEND_LONG_DATA,
			w.command == mysql.COM_QUIT:
			w.waiting = false // no answer comes
		}
	})
}

// answer takes what the server has sent.
func (w *sqlWire) answer(p []byte) {
	w.server.read(p, func(number byte, _ bool) {
		switch {
		// of the answer to the command before
		case w.login && number != w.next && (w.waiting || w.counted):
			w.tooEarly()
			return
		case number != w.next:
			w.astray++
		}
		if w.waiting && w.login {
			w.waiting = false
			w.answered++
		}
		w.next = number + 1
	}, func() {})
}

// sqlConn is a connection as it was captured at its server.
type sqlConn struct {
	sqlWire
	to, from sqlSide
}

// sqlSide is one direction of it.
type sqlSide struct {
	reasm.Reader
	begun bool
	read  uint64
}

// add takes a segment, and hands on what is in order now.
func (d *sqlSide) add(pool *chunk.Pool, s *packet.Segment, to func([]byte)) {
	if s.Flags.Has(packet.SYN) && !d.begun {
		d.begun = true
		d.Init(pool, s.Seq+1, 0)
	}
	if !d.begun || len(s.Payload) == 0 {
		return
	}
	d.Insert(s.Seq, s.Payload, reasm.Note{})
	for {
		v := d.View(d.read, math.MaxInt)
		if len(v) == 0 {
			return
		}
		to(v)
		d.read += uint64(len(v))
		d.Take(d.read)
	}
}

// sqlWatch captures on a server's host what the server gets and says, whatever address that comes
// from.
type sqlWatch struct {
	t      testing.TB
	port   uint16
	source source.Source
	enough atomic.Bool
	ended  chan struct{}
	pool   chunk.Pool
	open   map[netip.AddrPort]*sqlConn // by the client's address
	all    []*sqlConn
	broken int // packets that were not captured whole
}

// watchSQL begins on the target, at the device where copies reach it by the stand's way. The ring
// takes bursts of 16 MB in frames of 64 KB.
func (s *stand) watchSQL(port uint16) *sqlWatch {
	s.t.Helper()
	w := &sqlWatch{t: s.t, port: port, ended: make(chan struct{}),
		open: make(map[netip.AddrPort]*sqlConn)}
	conf := afpacket.Config{Interfaces: []string{netlab.Device}, Memory: 128 << 20,
		BlockSize: 1 << 20, BlockTimeout: 20 * time.Millisecond}
	if s.way == tunnel { // there everything is seen twice
		conf.Interfaces, conf.IgnoreOutgoing = []string{"lo"}, true
	}
	err := s.net.Target.Try(func() (err error) {
		if conf.Filter, err = filter.Compile(fmt.Sprintf("tcp port %d", port),
			filter.Options{}); err != nil {
			return err
		}
		w.source, err = afpacket.Open(conf)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	go w.run()
	s.t.Cleanup(w.stop)
	return w
}

// run judges until it is enough, and nothing more comes.
func (w *sqlWatch) run() {
	defer close(w.ended)
	for {
		enough := w.enough.Load()
		frames, err := w.source.Next(100 * time.Millisecond)
		if err != nil || enough && len(frames) == 0 {
			return
		}
		for i := range frames {
			var s packet.Segment
			if packet.Decode(frames[i].Data, frames[i].Wire, &s) != nil || s.Cut() {
				w.broken++
				continue
			}
			w.add(&s)
		}
	}
}

func (w *sqlWatch) add(s *packet.Segment) {
	peer, arrives := s.Src, s.Dst.Port() == w.port
	if !arrives {
		peer = s.Dst
	}
	c := w.open[peer]
	if c == nil || arrives && s.Flags.Has(packet.SYN) && c.to.begun && c.to.OffsetOf(s.Seq+1) != 0 {
		c = new(sqlConn)
		w.open[peer] = c
		w.all = append(w.all, c)
	}
	if arrives {
		c.to.add(&w.pool, s, c.say)
	} else {
		c.from.add(&w.pool, s, c.answer)
	}
}

func (w *sqlWatch) stop() {
	w.enough.Store(true)
	<-w.ended
	w.source.Close()
}

// sqlSeen sums what was seen of all connections.
type sqlSeen struct{ conns, commands, answered, early, astray int }

// judge ends the capture, which must be whole.
func (w *sqlWatch) judge() (sum sqlSeen) {
	w.t.Helper()
	w.stop()
	if stats := w.source.Stats(); stats.Dropped > 0 || w.broken > 0 {
		w.t.Errorf("of the capture at the target %d packets are lost, and %d cut", stats.Dropped,
			w.broken)
	}
	for _, c := range w.all {
		if !c.to.begun || !c.from.begun || c.to.Hole() || c.from.Hole() {
			w.t.Error("the capture of a connection at the target has holes")
		}
		sum.conns++
		sum.commands += c.commands
		sum.answered += c.answered
		sum.early += c.early
		sum.astray += c.astray
	}
	return sum
}

// inOrder ends the capture: no command may have come early, and there must have been so many at
// least.
func (w *sqlWatch) inOrder(conns, commands int) {
	w.t.Helper()
	sum := w.judge()
	if sum.early > 0 || sum.astray > 0 || sum.conns < conns || sum.commands < commands {
		w.t.Errorf("at the target: %+v, wanted %d connections, %d commands, and none early", sum,
			conns, commands)
	}
}

// turn is what one side of a connection says.
type turn struct {
	client bool
	p      string
}

// The two sides, for turns.
const fromClient, fromServer = true, false

// pack returns a packet of the protocol.
func pack(number byte, payload ...byte) string {
	return string(append([]byte{byte(len(payload)), 0, 0, number}, payload...))
}

// Packets that the cases of TestSQLWire consist of.
var (
	wireLogin = []turn{{fromServer, pack(0, 10)}, {fromClient, pack(1, 'u')},
		{fromServer, pack(2, 0xfe, 'x')}, {fromClient, pack(3, 'p')}, {fromServer, pack(4, 0)}}
	wireQuery, wireDone = pack(0, mysql.COM_QUERY, 'x'), pack(1, 0)
	wireRows            = pack(1, 1) + pack(2, 3) + pack(3, 0xfb)
	wireBig             = "\xff\xff\xff\x00\x03" + strings.Repeat("x", 1<<24-2)
)

// wireCases are conversations, and what a sqlWatch must find in them.
var wireCases = []struct {
	name                              string
	turns                             []turn
	commands, answered, early, astray int
}{
	{"a login", nil, 0, 0, 0, 0},
	{"one after the other", []turn{{fromClient, wireQuery}, {fromServer, wireDone},
		{fromClient, wireQuery}, {fromServer, wireRows},
		{fromServer, pack(4, 0xfe)}, {fromClient, wireQuery}, {fromServer, wireDone}}, 3, 3, 0, 0},
	{"the last is not answered", []turn{{fromClient, wireQuery}, {fromServer, wireDone},
		{fromClient, wireQuery}}, 2, 1, 0, 0},
	{"no answer to some", []turn{{fromClient, pack(0, mysql.COM_STMT_CLOSE, 1) + wireQuery},
		{fromServer, wireDone},
		{fromClient, pack(0, mysql.COM_STMT_SEND_LONG_DATA, 1) +
			pack(0, mysql.COM_STMT_SEND_LONG_DATA,
				1) + pack(0, mysql.COM_STMT_EXECUTE, 1)}, {fromServer, wireDone},
		{fromClient, pack(0, mysql.COM_QUIT)}}, 6, 2, 0, 0},
	{"an answer to COM_STMT_RESET", []turn{{fromClient, pack(0, mysql.COM_STMT_RESET, 1)},
		{fromClient, wireQuery},
		{fromServer, wireDone}, {fromServer, wireDone}}, 2, 1, 1, 0},
	{"two at once", []turn{{fromClient, wireQuery + wireQuery}, {fromServer, wireDone},
		{fromServer, wireDone}}, 2, 1, 1, 0},
	{"three at once", []turn{{fromClient, wireQuery + wireQuery + wireQuery},
		{fromServer, wireDone}, {fromServer, wireDone}, {fromServer, wireDone}}, 3, 1,
		2, 0},
	{"between two packets of an answer", []turn{{fromClient, wireQuery}, {fromServer, wireRows},
		{fromClient, wireQuery},
		{fromServer, pack(4, 0xfe)}, {fromServer, wireDone}}, 2, 2, 1, 0},
	{"within a packet of an answer", []turn{{fromClient, wireQuery}, {fromServer, wireRows[:8]},
		{fromClient, wireQuery},
		{fromServer, wireRows[8:]}, {fromServer, pack(4, 0xfe)}, {fromServer, wireDone}}, 2, 2, 1,
		0},
	{"within a header", []turn{{fromClient, wireQuery}, {fromServer, wireRows[:6]},
		{fromClient, wireQuery}, {fromServer, wireRows[6:]},
		{fromServer, pack(4, 0xfe)}, {fromServer, wireDone}}, 2, 2, 1, 0},
	{"behind one that has no answer, in mid-answer", []turn{{fromClient, wireQuery},
		{fromServer, wireRows},
		{fromClient, pack(0, mysql.COM_STMT_CLOSE, 1) + wireQuery}, {fromServer, pack(4, 0xfe)},
		{fromServer,
			wireDone}}, 3, 2, 1, 0},
	{"a login in between", []turn{{fromClient, pack(0, mysql.COM_CHANGE_USER, 'x')},
		{fromServer, pack(1, 0xfe)},
		{fromClient, pack(2, mysql.COM_QUIT)}, {fromServer, pack(3, 0)}, {fromClient, wireQuery},
		{fromServer, wireDone}}, 2, 2, 0, 0},
	{"16 MB", []turn{{fromClient, wireBig}, {fromClient, pack(1, 'y')}, {fromServer, pack(2, 0)},
		{fromClient, wireQuery}, {fromServer, wireDone}}, 2, 2,
		0, 0},
	{"16 MB, and nothing", []turn{{fromClient, wireBig}, {fromClient, pack(1)},
		{fromServer, "\xff\xff\xff\x02" + strings.Repeat("x", 1<<24-1)}, {fromServer, pack(3)},
		{fromClient, wireQuery}, {fromServer,
			wireDone}}, 2, 2, 0, 0},
	{"in the middle of 16 MB",
		[]turn{{fromClient, wireQuery}, {fromServer, "\xff\xff\xff\x01" + strings.Repeat("x",
			1<<24-1)}, {fromClient, wireQuery},
			{fromServer, pack(2)}, {fromServer, wireDone}}, 2, 2, 1, 0},
	{"numbers that go round", []turn{{fromClient, wireQuery}, {fromServer, func() (p string) {
		for i := 1; i < 600; i++ {
			p += pack(byte(i), 'r')
		}
		return p
	}()}, {fromClient, wireQuery}, {fromServer, wireDone}}, 2, 2, 0, 0},
	{"a number left out", []turn{{fromClient, wireQuery}, {fromServer, pack(1, 1)},
		{fromServer, pack(3, 1)}}, 1, 1, 0, 1},
}

// TestSQLWire checks what sqlWire finds in made-up connections.
func TestSQLWire(t *testing.T) {
	t.Parallel()
	for _, test := range wireCases {
		t.Run(test.name, func(t *testing.T) {
			for _, piece := range []int{math.MaxInt, 1 << 20, 1} {
				var w sqlWire
				for _, turn := range slices.Concat(wireLogin, test.turns) {
					for p := []byte(turn.p); len(p) > 0; {
						n := min(piece, len(p))
						if turn.client {
							w.say(p[:n])
						} else {
							w.answer(p[:n])
						}
						p = p[n:]
					}
				}
				if w.commands != test.commands || w.answered != test.answered ||
					w.early != test.early || w.astray != test.astray {
					t.Errorf("in pieces of %d: %d commands, %d answered, %d early, %d astray; "+
						"wanted %d, %d, %d, %d", piece,
						w.commands, w.answered, w.early, w.astray, test.commands, test.answered,
						test.early, test.astray)
				}
			}
		})
	}
}
