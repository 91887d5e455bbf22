package mysql

import (
	"tcpcopy/internal/proto"
)

// A query may have attributes before its text, and a statement names for its parameters, where both sides
// have agreed on CLIENT_QUERY_ATTRIBUTES. Where production and the target differ in that, commands are
// encoded again: without attributes that nobody gave, or with as many.

// What becomes of a query's two bytes that say it has no attributes.
const (
	takeAway int8 = -2
	addThem  int8 = 2
)

// attributesBeyond is more than the number of attributes of any query: where there are none, text has no such bytes.
const attributesBeyond = '\t'

// paramCount in an execute's flags says that the number of parameters is there, and their names.
const paramCount = 8

// mustStrip says that an execute with these flags is to be encoded again, for the target has not agreed on
// attributes. Some clients set the flag where production has not, either: of one that nobody saw log in, the
// rest tells.
func (c *Client) mustStrip(flags byte) bool {
	if c.caps&capAttributes != 0 || flags&paramCount == 0 {
		return false
	}
	return !c.who.known || c.who.caps&capAttributes != 0 && (!c.production.upper || c.production.caps&capAttributes != 0)
}

// stripExecute decides what becomes of an execute that is to be encoded again, as far as it was collected.
func (c *Client) stripExecute(out *proto.Out) {
	p, n := c.whole, c.pending
	bare := withoutAttributes(p, c.params)
	switch {
	case bare != nil && c.packet.length < maxPayload:
		p = bare
	case c.who.known: // it has attributes, or all that follows would have to be cut anew
		c.leave(queryAttributes)
		c.whole = nil
		return
	}
	length := c.packet.length - len(c.whole) + len(p)
	c.settle()
	c.fate = passed
	out.Replace(n, append([]byte{byte(length), byte(length >> 8), byte(length >> 16), 0}, p...))
}

// withoutAttributes encodes a payload of COM_STMT_EXECUTE without names, for a statement with that many
// parameters; nil where it has attributes as well, or is not understood. Of the parameters' values nothing need be there.
func withoutAttributes(p []byte, params uint16) []byte {
	const fixed = 1 + 4 + 1 + 4
	f := cursor{p, true}
	head := f.take(fixed)
	if head == nil || head[5]&paramCount == 0 {
		return nil
	}
	b := append(make([]byte, 0, len(p)), head...)
	b[5] &^= paramCount
	count, n := lenenc(f.p)
	if n == 0 || count != uint64(params) {
		return nil
	}
	f.take(n)
	if params == 0 {
		return b
	}
	b = append(b, f.take((int(params)+7)/8)...)
	bound := f.byte()
	b = append(b, bound)
	if bound > 1 {
		return nil
	}
	if bound == 1 {
		for range params {
			b = append(b, f.take(2)...)
			f.counted()
		}
	}
	if !f.ok {
		return nil
	}
	return append(b, f.p...)
}

// attributesOf finds out what becomes of the attributes before a query's text; it returns where the text
// begins. Where there are attributes, the fate of the query is decided.
func (c *Client) attributesOf(head []byte) (at int) {
	agreed := c.caps&capAttributes != 0
	none := len(head) >= 3 && head[1] == 0 && head[2] == 1
	switch given := len(head) > 1 && head[1] > 0 && head[1] < attributesBeyond; {
	case given && c.opt.ReadOnly:
		c.leave(readOnly)
	case given && !agreed:
		c.leave(queryAttributes)
	case given:
		c.fate = passed
	case none && !agreed:
		c.strip = takeAway
	case !none && agreed:
		c.strip = addThem
	}
	if c.strip != 0 && (c.packet.length == maxPayload || c.packet.length+int(c.strip) >= maxPayload) {
		c.leave(queryAttributes) // all that follows would have to be cut anew
	}
	if none {
		return 3
	}
	return 1
}

// stripQuery begins a query that has attributes where the target wants none, or the other way round.
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
