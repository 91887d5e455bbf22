package mysql

import (
	"encoding/binary"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
)

// phase is the phase of a copy's connection.
type phase uint8

const (
	greeted phase = iota // the client's handshake response follows
	adopted              // a command follows, and the copy has not logged in
	// the copy has logged in; more of the client's own login may follow
	authenticating
	commands
	gone // nothing more is read
)

// fate is what becomes of the present packet.
type fate uint8

const (
	undecided fate = iota
	passed         // it goes to the target
	leftOut        // it does not, for the reason in why
	reading        // its text decides
	collected      // it is collected, to be changed as a whole
	swallowed      // it belongs to the client's login, which the copy's login replaces
	file           // it belongs to a file that production asked for, and is left out
)

// filing is the state of a file that production has asked the client for.
type filing uint8

const (
	noFile   filing = iota
	mayAsk          // a command was left out, and production may ask for a file in its answer
	underWay        // packets of the file have come
)

// Client reads a client's commands, and logs the copy in: see proto.Client.
type Client struct {
	opt    *Settings
	phase  phase
	fate   fate
	hold   bool // the client's bytes wait for the target
	why    ledger.Reason
	number uint8 // sequence id of the next packet of a command or a file
	filing filing
	strip  int8 // takeAway or addThem, or 0: see attributes.go
	packet framer
	// pending counts the bytes that were read and that no step has taken yet.
	pending int
	form    form
	command uint8
	seen    uint64 // bytes of the server seen by the client before the present command
	before  uint64 // the same, before the command before it
	text    text
	whole   []byte // the payload of a packet that is collected
	params  uint16 // of the statement that the command names

	who        identity
	production hello  // production's greeting, as far as it was captured
	target     *hello // the target's greeting; nil until it has come
	caps       uint32 // of the copy's connection

	statements statements
	dialogue   *dialogue
	answers    packets // the target's packets of a login
}

var _ proto.Client = (*Client)(nil)

// NewClient returns a reader for one session. o is shared, and must not change.
func NewClient(o *Settings) *Client { return &Client{opt: o} }

// Edits is of proto.Client.
func (c *Client) Edits() bool { return true }

// Holds is of proto.Client.
func (c *Client) Holds() bool { return c.hold }

// Expects is of proto.Client: the protocol has no interim answers.
func (c *Client) Expects() bool { return false }

// Begin is of proto.Client. It keeps what an earlier copy has learned of the client, and what was
// captured of production's server: a copy may begin long after its client.
func (c *Client) Begin(under bool, _ *proto.Out) error {
	next := Client{opt: c.opt, who: c.who, production: c.production}
	next.statements.told = c.statements.told
	if under {
		next.phase = adopted
		next.statements.unsure = true
	}
	*c = next
	return nil
}

// Feed is of proto.Client.
func (c *Client) Feed(p []byte, seen uint64, out *proto.Out) error {
	for len(p) > 0 && !c.hold && c.phase != gone {
		var used int
		var err error
		switch {
		case c.phase == adopted && c.target == nil:
			c.hold = true
		case c.phase == adopted:
			err = c.logIn(0, out)
		case c.phase == greeted:
			used, err = c.response(p, out)
		default:
			used, err = c.step(p, seen, out)
		}
		if err != nil {
			c.phase = gone
			return err
		}
		p = p[used:]
	}
	if c.hold && c.pending > 0 { // the bytes that no step has taken are fed again
		c.pending, c.whole = 0, nil
		c.packet = framer{}
	}
	return nil
}

// response reads the client's handshake response.
func (c *Client) response(p []byte, out *proto.Out) (used int, err error) {
	used, whole, err := c.collect(p, loginMost)
	if err != nil || !whole {
		return used, err
	}
	if c.packet.seq != 1 {
		return used, lost("number of a client's first packet", c.packet.seq)
	}
	if c.who, err = parseResponse(c.whole); err != nil {
		return used, err
	}
	switch {
	case c.who.caps&capSSL != 0 && !c.who.known:
		return used, &proto.Refusal{Reason: ledger.TLS, Final: true}
	case !c.who.known:
		return used, lost("length of a login", len(c.whole))
	case c.who.compresses(&c.production):
		return used, &proto.Refusal{Reason: compressed, Final: true}
	case c.target == nil:
		c.hold = true
		return used, nil
	}
	n := c.pending
	c.settle()
	return used, c.logIn(n, out)
}

// compresses reports whether the bytes after the login are compressed, as far as production's
// greeting is known.
func (id *identity) compresses(production *hello) bool {
	caps := id.caps
	if production.upper {
		caps &= production.caps
	}
	return caps&(capCompress|capZstd) != 0
}

// collect reads bytes of a packet into c.whole, and reports whether the packet is whole.
func (c *Client) collect(p []byte, most int) (used int, whole bool, err error) {
	if !c.packet.open {
		n, ok := c.packet.start(p)
		c.pending += n
		if used = n; !ok {
			return used, false, nil
		}
		c.whole = nil
	}
	if c.packet.length > most {
		return used, false, lost("length of a packet", c.packet.length)
	}
	n, end := c.packet.pass(len(p) - used)
	c.whole = append(c.whole, p[used:used+n]...)
	c.pending += n
	if end {
		c.packet.end()
	}
	return used + n, end, nil
}

// settle marks the pending bytes as taken by a step.
func (c *Client) settle() { c.pending, c.whole = 0, nil }

// step reads bytes of commands.
func (c *Client) step(p []byte, seen uint64, out *proto.Out) (used int, err error) {
	if !c.packet.open {
		n, whole := c.packet.start(p)
		c.pending += n
		if used = n; !whole {
			return used, nil
		}
		if err := c.begin(seen); err != nil {
			return used, err
		}
	}
	for c.fate == undecided {
		n, enough := c.packet.look(p[used:], c.wanted())
		used += n
		c.pending += n
		if !enough {
			return used, nil
		}
		if int(c.packet.have) < min(c.wanted(), c.packet.length) {
			continue // the first byte decides how much is wanted
		}
		if err := c.decide(out); err != nil || c.hold {
			return used, err
		}
	}
	n, whole := c.packet.pass(len(p) - used)
	if err := c.payload(p[used:used+n], out); err != nil {
		return used, err
	}
	used += n
	if whole && c.packet.end() {
		return used, c.finish(out)
	}
	return used, nil
}

// begin decides about a packet by its header.
func (c *Client) begin(seen uint64) error {
	switch seq := c.packet.seq; {
	case c.packet.more && c.fate == swallowed: // with any sequence id
	case c.packet.more:
		if seq != c.number {
			return lost("number of a packet", seq)
		}
		c.number++
	// ids wrap around: it may be 0
	case c.filing == mayAsk && seq != 0, c.filing == underWay && seq == c.number:
		c.fate, c.filing, c.number = file, underWay, seq+1
		if c.packet.length == 0 { // the file's last packet
			c.filing = noFile
		}
	case seq == 0 && c.packet.length > 0:
		c.phase, c.fate, c.number, c.strip, c.filing = commands, undecided, 1, 0, noFile
		c.before, c.seen = c.seen, seen
	case seq != 0 && c.phase == authenticating:
		c.fate = swallowed
	default:
		return lost("number of a command's first packet", seq)
	}
	return nil
}

// wanted returns how many bytes of a command are needed to decide about it.
func (c *Client) wanted() int {
	if c.packet.have == 0 {
		return 1
	}
	switch c.packet.head[0] {
	case comQuery, comSetOption:
		return 3
	case comExecute:
		return 6
	}
	if forms[c.packet.head[0]].id {
		return 5
	}
	return 1
}

// decide decides about a command by its first bytes.
func (c *Client) decide(out *proto.Out) error {
	head := c.packet.head[:c.packet.have]
	c.command = head[0]
	if c.form = forms[c.command]; !c.form.known {
		return lost("command", c.command)
	}
	switch why := c.form.refuses(c.opt); {
	case why != ledger.None:
		c.leaveOut(why)
	case c.form.id:
		return c.useStatement(head, out)
	case c.command == comPrepare && c.statements.full():
		c.leaveOut(unknownStatement)
	case c.form.text:
		c.beginText(head)
	case c.form.whole:
		if c.command == comChangeUser && c.statements.waiting() {
			c.hold = true // first the target's answers to prepares
			return nil
		}
		c.collectRest(head)
	default:
		// MYSQL_OPTION_MULTI_STATEMENTS_ON
		if c.command == comSetOption && len(head) == 3 && head[1] == 0 {
			c.caps |= capMultiStatement
		}
		c.fate = passed
	}
	return nil
}

// collectRest begins to collect the packet, whose first bytes are head.
func (c *Client) collectRest(head []byte) {
	c.fate = collected
	c.whole = append([]byte(nil), head...)
}

func (c *Client) leaveOut(why ledger.Reason) { c.fate, c.why = leftOut, why }

// payload treats bytes of a payload as was decided.
func (c *Client) payload(p []byte, out *proto.Out) error {
	c.pending += len(p)
	switch c.fate {
	case reading:
		if c.readText(p); c.fate == reading {
			return nil
		}
	case collected:
		c.whole = append(c.whole, p...)
		switch {
		case len(c.whole) < loginMost:
			return nil
		case c.command != comExecute:
			return lost("length of a packet", c.packet.length)
		}
		c.stripExecute(out)
	}
	c.flush(out)
	return nil
}

// flush makes a step of the pending bytes, if their fate is decided.
func (c *Client) flush(out *proto.Out) {
	switch c.fate {
	case passed:
		if c.strip != 0 {
			c.stripQuery(out)
		}
		out.Pass(c.pending)
	case leftOut:
		out.Drop(c.pending, c.why)
	case swallowed:
		out.Replace(c.pending, nil)
	case file:
		out.Drop(c.pending, loadData)
	}
	c.pending = 0
}

// finish ends a command.
func (c *Client) finish(out *proto.Out) error {
	switch c.fate {
	case reading:
		c.endText()
		c.flush(out)
	case collected:
		if c.command != comExecute {
			return c.wholeCommand(out)
		}
		c.stripExecute(out)
		c.flush(out)
	}
	if c.command == comPrepare && c.fate != swallowed && c.fate != file {
		why := ledger.None
		if c.fate == leftOut {
			why = c.why
		}
		c.statements.prepare(c.seen, c.seen != c.before, why)
	}
	switch c.fate {
	case leftOut:
		out.Refuse(c.why)
		if c.why == loadData {
			c.filing = mayAsk
		}
	case passed:
		if c.command == comResetConnection {
			c.statements.clear()
		}
		out.Request(c.form.request(c.command))
	}
	return nil
}

// wholeCommand treats a command that was collected.
func (c *Client) wholeCommand(out *proto.Out) error {
	n, p := c.pending, c.whole
	c.settle()
	switch c.command {
	case comChangeUser:
		return c.changeUser(p, n, out)
	case comInitDB:
		if len(p) <= 1+nameMost { // no server has a longer name
			c.who.db = string(p[1:])
		}
		out.Pass(n)
	}
	out.Request(c.form.request(c.command))
	return nil
}

// useStatement replaces production's statement id in a command by the target's.
func (c *Client) useStatement(head []byte, out *proto.Out) error {
	if len(head) < 5 || c.command == comExecute && len(head) < 6 {
		return lost("length of a command", len(head))
	}
	id := binary.LittleEndian.Uint32(head[1:])
	s, ok := c.statements.find(id)
	switch {
	case !ok:
		c.leaveOut(unknownStatement)
	case s.why != ledger.None:
		c.leaveOut(s.why)
		c.closeStatement(id)
	case id == lastStatement:
		c.fate = passed
	case !s.answered:
		c.hold = true
	case c.command == comBulkExecute && c.target.ext&extBulk == 0:
		c.leaveOut(serverCommand)
	case c.command == comExecute && c.mustStrip(head[5]):
		c.collectRest(head)
		c.params = s.params
		binary.LittleEndian.PutUint32(c.whole[1:], s.id)
	default:
		c.fate = passed
		out.Pass(headerLen + 1)
		out.Replace(4, binary.LittleEndian.AppendUint32(nil, s.id))
		c.pending -= headerLen + 1 + 4
		c.closeStatement(id)
	}
	return nil
}

func (c *Client) closeStatement(id uint32) {
	if c.command == comClose {
		c.statements.close(id)
	}
}
