package mysql

import (
	"tcpcopy/internal/proto"
)

// If client and server have agreed on CLIENT_QUERY_ATTRIBUTES, a query has attributes before its
// text, and a statement's parameters have names. If the target differs from production in that,
// commands without attributes are encoded again, and commands with attributes are left out.

// What becomes of the two bytes by which a query has no attributes.
const (
	takeAway int8 = -2
	addThem  int8 = 2
)

// attributesBeyond exceeds the number of attributes of any query, and no text begins with a
// smaller byte.
const attributesBeyond = '\t'

// paramCount is the flag of an execute that has the number of its parameters, and their names.
const paramCount = 8

// mustStrip reports whether an execute with these flags must be encoded again because the target
// has not agreed on attributes. Some clients set the flag although production has not agreed
// either. If the login was not captured, stripExecute decides by the rest of the packet.
func (c *Client) mustStrip(flags byte) bool {
	if c.caps&capAttributes != 0 || flags&paramCount == 0 {
		return false
	}
	return !c.who.known || c.who.caps&capAttributes != 0 && (!c.production.upper ||
		c.production.caps&capAttributes != 0)
}

// stripExecute decides about an execute that must be encoded again, as far as it was collected.
func (c *Client) stripExecute(out *proto.Out) {
	p, n := c.whole, c.pending
	bare := withoutAttributes(p, c.params)
	switch {
	case bare != nil && c.packet.length < maxPayload:
		p = bare
	case c.who.known: // it has attributes, or all packets behind it would have to be split again
		c.leaveOut(queryAttributes)
		c.whole = nil
		return
	}
	length := c.packet.length - len(c.whole) + len(p)
	c.settle()
	c.fate = passed
	out.Replace(n, append([]byte{byte(length), byte(length >> 8), byte(length >> 16), 0}, p...))
}

// withoutAttributes returns a payload of COM_STMT_EXECUTE without names, for a statement with
// params parameters; nil if it has attributes as well, or cannot be parsed. The parameters' values
// may be missing.
func withoutAttributes(p []byte, params uint16) []byte {
	const fixed = 1 + 4 + 1 + 4
	f := cursor{p, true}
	head := f.next(fixed)
	if head == nil || head[5]&paramCount == 0 {
		return nil
	}
	b := append(make([]byte, 0, len(p)), head...)
	b[5] &^= paramCount
	count, n := lenenc(f.p)
	if n == 0 || count != uint64(params) {
		return nil
	}
	f.next(n)
	if params == 0 {
		return b
	}
	b = append(b, f.next((int(params)+7)/8)...)
	bound := f.byte()
	b = append(b, bound)
	if bound > 1 {
		return nil
	}
	if bound == 1 {
		for range params {
			b = append(b, f.next(2)...)
			f.counted()
		}
	}
	if !f.ok {
		return nil
	}
	return append(b, f.p...)
}

// attributesOf decides what becomes of the attributes before a query's text, and returns where the
// text begins. If there are attributes, it decides the fate of the query.
func (c *Client) attributesOf(head []byte) (at int) {
	agreed := c.caps&capAttributes != 0
	none := len(head) >= 3 && head[1] == 0 && head[2] == 1
	switch given := len(head) > 1 && head[1] > 0 && head[1] < attributesBeyond; {
	case given && c.opt.ReadOnly:
		c.leaveOut(readOnly)
	case given && !agreed:
		c.leaveOut(queryAttributes)
	case given:
		c.fate = passed
	case none && !agreed:
		c.strip = takeAway
	case !none && agreed:
		c.strip = addThem
	}
	if c.strip != 0 && (c.packet.length == maxPayload ||
		c.packet.length+int(c.strip) >= maxPayload) {
		c.leaveOut(queryAttributes) // all packets behind it would have to be split again
	}
	if none {
		return 3
	}
	return 1
}

// stripQuery replaces the beginning of a query: it removes the bytes for no attributes, or adds
// them.
func (c *Client) stripQuery(out *proto.Out) {
	n := c.packet.length + int(c.strip)
	begin := []byte{byte(n), byte(n >> 8), byte(n >> 16), 0, comQuery, 0, 1}
	taken := headerLen + 1
	if c.strip == takeAway {
		begin = begin[:headerLen+1]
		taken += 2
	}
	out.Replace(taken, begin)
	c.pending -= taken
	c.strip = 0
}
