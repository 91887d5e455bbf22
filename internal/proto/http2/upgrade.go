package http2

import (
	"bytes"
	"strconv"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/hpack"
	"tcpcopy/internal/proto/http1"
	"tcpcopy/internal/proto/semantics"
)

// maxUpgrade bounds the head of a request that asks for an upgrade, and of the answer to it.
const maxUpgrade = 64 << 10

// upgrade is the head of a request of HTTP/1 that asks for an upgrade to HTTP/2 (RFC 7540 §3.2).
// Its content, if it has some, follows in HTTP/1. If production accepts it, its answer is the first
// stream's, and the connection goes on in HTTP/2.
// A copy asks for no upgrade: it speaks HTTP/2 at once, and its first stream has that request.
type upgrade struct {
	method, target, host []byte
	fields               [][2][]byte // the others, with names in lower case
	length               int64       // of its content
	chunked              bool        // its content comes in chunks
	lengths              int         // how many fields tell of its content
	expects              bool        // it waits for an interim answer before it sends its content
}

// maxDigits is how many digits a length may have.
const maxDigits = 18

// readLength reads a field that tells of the content. It returns false if that is not certain.
func (u *upgrade) readLength(name string, value []byte) bool {
	if u.lengths++; u.lengths > 1 {
		return false
	}
	if name == "transfer-encoding" {
		u.chunked = true
		return bytes.EqualFold(value, []byte("chunked"))
	}
	n, err := strconv.ParseUint(string(value), 10, 63)
	u.length = int64(n)
	return err == nil && len(value) <= maxDigits
}

// parseUpgrade reads a head. It returns false if it is of another request, or of one that
// production's server may read in another way.
func parseUpgrade(head []byte) (u upgrade, ok bool) {
	line, rest, _ := bytes.Cut(head, []byte{'\n'})
	words := bytes.Split(bytes.TrimSuffix(line, []byte{'\r'}), []byte{' '})
	if len(words) != 3 || string(words[2]) != "HTTP/1.1" || len(words[1]) == 0 ||
		len(words[0]) == 0 || len(words[0]) > semantics.MaxMethod {
		return u, false
	}
	u.method, u.target = words[0], words[1]
	asks, settings, connection := false, 0, []byte(nil)
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte{'\n'})
		if line = bytes.TrimSuffix(line, []byte{'\r'}); len(line) == 0 {
			break
		}
		name, value, is := bytes.Cut(line, []byte{':'})
		if !is || len(name) == 0 || bytes.ContainsAny(name, " \t") {
			return u, false
		}
		name, value = bytes.ToLower(name), bytes.Trim(value, " \t")
		switch string(name) {
		case "upgrade":
			asks = asks || lists(value, "h2c")
		case "http2-settings":
			settings++
		case "connection":
			connection = append(append(connection, ','), value...)
		case "host":
			u.host = value
		case "content-length", "transfer-encoding":
			if !u.readLength(string(name), value) {
				return u, false
			}
			if u.length > 0 {
				u.fields = append(u.fields, [2][]byte{name, value})
			}
		case "keep-alive", "proxy-connection", "te":
		case "expect":
			u.expects = true
		default:
			u.fields = append(u.fields, [2][]byte{name, value})
		}
	}
	n := 0
	for _, f := range u.fields {
		if !lists(connection, string(f[0])) { // else it belongs to the connection
			u.fields[n] = f
			n++
		}
	}
	u.fields = u.fields[:n]
	return u, asks && settings == 1 && !u.expects && lists(connection, "upgrade") &&
		lists(connection, "http2-settings")
}

// asksUpgrade reports whether a head is of a request for an upgrade.
func asksUpgrade(head []byte) bool {
	_, ok := parseUpgrade(head)
	return ok
}

// lists reports whether a list has the element s, in any case.
func lists(list []byte, s string) bool {
	for one := range bytes.SplitSeq(list, []byte{','}) {
		if bytes.EqualFold(bytes.TrimSpace(one), []byte(s)) {
			return true
		}
	}
	return false
}

// each passes the fields of the request on, as HTTP/2 has them.
func (u *upgrade) each(to func(*hpack.Field)) {
	for _, f := range [...][2][]byte{{nameMethod, u.method}, {nameScheme, schemeHTTP},
		{nameAuthority, u.host}, {namePath, u.target}} {
		to(&hpack.Field{Name: f[0], Value: f[1]})
	}
	for _, f := range u.fields {
		to(&hpack.Field{Name: f[0], Value: f[1]})
	}
}

var (
	nameMethod    = []byte(":method")
	nameScheme    = []byte(":scheme")
	nameAuthority = []byte(":authority")
	namePath      = []byte(":path")
	schemeHTTP    = []byte("http")
)

// headEnd returns where a head ends in p, with the empty line; 0 if it does not.
func headEnd(p []byte) int {
	for from := 0; ; {
		i := bytes.IndexByte(p[from:], '\n')
		if i < 0 {
			return 0
		}
		from += i + 1
		switch rest := p[from:]; {
		case len(rest) > 0 && rest[0] == '\n':
			return from + 1
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return from + 2
		}
	}
}

// accepted is how the answer begins with which a server accepts an upgrade.
const accepted = "HTTP/1.1 101 "

// recogniseUpgrade recognises a connection by its first request, and that production has accepted
// an upgrade to HTTP/2. Of one that it has not accepted, all is HTTP/1.
func recogniseUpgrade(client, server []byte) proto.Verdict {
	n := headEnd(client)
	if n == 0 {
		if len(client) > maxUpgrade || !mayAsk(client) {
			return proto.No
		}
		return proto.Unsure
	}
	if !asksUpgrade(client[:n]) {
		return proto.No
	}
	k := min(len(server), len(accepted))
	switch {
	case string(server[:k]) != accepted[:k]:
		return proto.No
	case k < len(accepted):
		return proto.Unanswered
	}
	return proto.Yes
}

// mayAsk reports whether bytes may begin a request of HTTP/1.
func mayAsk(p []byte) bool {
	line, _, whole := bytes.Cut(p, []byte{'\n'})
	if whole {
		return bytes.HasSuffix(bytes.TrimSuffix(line, []byte{'\r'}), []byte(" HTTP/1.1"))
	}
	for i, c := range p[:min(len(p), semantics.MaxMethod+1)] {
		if !semantics.IsToken(c) {
			return i > 0 && c == ' '
		}
	}
	return len(p) <= semantics.MaxMethod
}

// opening is how a direction of a connection begins, for its readers.
type opening struct {
	have  int    // bytes of the preface
	plain bool   // a head of HTTP/1 comes first
	head  []byte // of it
	body  http1.Body
	done  bool
}

// opened is what an opening has found of a request that asks for an upgrade.
type opened struct {
	asked *upgrade // its head is whole
	piece []byte   // some content
	ends  bool     // it has ended
}

// client reads some of the client's first bytes: the preface, which a request may precede.
func (o *opening) client(p []byte) (used int, f opened, err error) {
	if !o.body.Ended() {
		used, content, err := o.body.Next(p)
		if content {
			f.piece = p[:used]
		}
		f.ends = o.body.Ended()
		return used, f, err
	}
	if !o.plain {
		n := min(len(p), len(preface)-o.have)
		if string(p[:n]) == preface[o.have:o.have+n] {
			o.have += n
			o.done = o.have == len(preface)
			return n, f, nil
		}
		if o.head != nil {
			return 0, f, lost("preface of the length", o.have)
		}
		o.plain = true
		o.head = append(make([]byte, 0, 512), preface[:o.have]...) // the method begins like it
		o.have = 0
	}
	used, head, err := o.plainHead(p)
	switch {
	case head != nil:
		u, ok := parseUpgrade(head)
		if !ok {
			return used, f, lost("request of HTTP/1, of the length", len(head))
		}
		o.plain = false
		o.body.Begin(u.length, u.chunked)
		f.asked, f.ends = &u, o.body.Ended()
	case err == nil && !mayAsk(o.head):
		err = lost("preface, or request of HTTP/1, of the length", len(o.head))
	}
	return used, f, err
}

// server reads a server's first bytes, which may be the answer that accepts an upgrade.
func (o *opening) server(p []byte) (used int, err error) {
	if !o.plain && p[0] != accepted[0] { // no SETTINGS are so long
		o.done = true
		return 0, nil
	}
	o.plain = true
	used, head, err := o.plainHead(p)
	o.done = head != nil
	if err == nil && !bytes.HasPrefix(o.head, []byte(accepted[:min(len(o.head),
		len(accepted))])) {
		err = lost("answer to an upgrade, of the length", len(o.head))
	}
	return used, err
}

// plainHead reads a head, byte by byte where it may end.
func (o *opening) plainHead(p []byte) (used int, head []byte, err error) {
	for used < len(p) {
		n := bytes.IndexByte(p[used:], '\n') + 1
		if n == 0 {
			n = len(p) - used
		}
		o.head = append(o.head, p[used:used+n]...)
		if used += n; len(o.head) > maxUpgrade {
			return used, nil, lost("head of HTTP/1, of the length", len(o.head))
		}
		if bytes.HasSuffix(o.head, []byte("\n\n")) || bytes.HasSuffix(o.head, []byte("\n\r\n")) {
			return used, o.head, nil
		}
	}
	return used, nil, nil
}

// readOpening reads some of the client's first bytes.
func (c *Client) readOpening(p []byte, out *proto.Out) (used int, err error) {
	inside := !c.opening.body.Ended()
	used, f, err := c.opening.client(p)
	end := c.fed + uint64(used)
	switch s := c.byClient[1]; {
	case err != nil:
	case f.asked != nil:
		c.readUpgrade(f.asked, f.ends, end, out)
	case inside:
		c.frameAt = end - uint64(len(f.piece))
		switch {
		case s == nil:
			c.leaveOut(c.fed, end, streamUnknown)
		case s.why != ledger.None:
			c.leaveOut(c.fed, end, s.why)
		case len(f.piece) > 0:
			c.content(s, f.piece, c.frameAt, len(f.piece), out)
		}
		if f.ends && s != nil {
			c.endOfClient(s)
		}
	}
	c.frameAt = end
	return used, err
}

// readUpgrade reads the head of a request that asks for an upgrade: the first stream. It waits
// until production is known to have accepted it.
func (c *Client) readUpgrade(u *upgrade, ends bool, end uint64, out *proto.Out) {
	r := &c.fields
	r.reset(c.set, false)
	u.each(r.add)
	r.finish()
	c.latest, c.asking, c.frameAt = 1, true, c.taken
	b := block{stream: 1, at: c.taken}
	if ends {
		b.flags = flagEndStream
	}
	c.addRequest(r, r.dst, &b, end, out)
}

// asks reports whether a stream has a request that asks for an upgrade, which production is not
// known to have accepted.
func (c *Client) asks(s *stream) bool {
	c.asking = c.asking && !c.opening.done && !c.server.opening.done
	return c.asking && s.id == 1
}
