package mysql

import (
	"encoding/binary"

	"tcpcopy/internal/proto"
)

// The hints of commands whose answers are not framed like that of a query.
const (
	hintText    proto.Hint = 1              // one packet of text: COM_STATISTICS
	hintList    proto.Hint = 2              // no count first: COM_FIELD_LIST, COM_STMT_FETCH
	hintPrepare proto.Hint = 3 | proto.Keep // COM_STMT_PREPARE
	hintLogin   proto.Hint = 4 | proto.Keep // COM_CHANGE_USER
	// hintOldLogin is of production's logins: the client knows EOF packets only.
	hintOldLogin proto.Hint = 5 | proto.Keep
)

// expecting tells what the next packet of an answer is.
type expecting uint8

const (
	aResult     expecting = iota // the first of a result: OK, an error, or the number of columns
	aColumn                      // a column definition
	aColumnsEnd                  // the EOF behind the column definitions
	aRow                         // a row, or the end of the rows
	aPrepared                    // the first of an answer to a prepare
	aMessage                     // of a login
	aText                        // one packet of any content
)

// answer finds the end of one answer.
type answer struct {
	framer
	deprecateEOF bool // there is no EOF behind columns, and rows end with an OK packet
	expect       expecting
	prepare      bool // the columns are those of a prepared statement
	stray        bool // the packet does not have the sequence id in next
	judged       bool // the packet's head has been read
	last         bool // the packet is the answer's last
	failed       bool
	begun        bool   // the first packet has come
	next         uint8  // the sequence id of the next packet
	code         uint16 // of the error
	columns      int    // column definitions that follow
	then         int    // of a prepare: the column definitions of the list behind this one
	id           uint32 // of the prepared statement
	params       uint16 // of the prepared statement
}

// firstMost is the highest sequence id of an answer's first packet. Ids continue those of the
// command's packets, of which there are at most 64: max_allowed_packet is at most 1 GB.
const firstMost = 65

// begin prepares for the answer to a request with the hint h.
func (a *answer) begin(h proto.Hint) {
	*a = answer{deprecateEOF: a.deprecateEOF}
	switch h {
	case hintText:
		a.expect = aText
	case hintList:
		a.expect = aRow
	case hintPrepare:
		a.expect, a.prepare = aPrepared, true
	case hintLogin:
		a.expect = aMessage
	}
}

// step reads some of p, at most to the answer's end, and reports whether it ends there.
func (a *answer) step(p []byte) (used int, done bool, err error) {
	if !a.open {
		n, whole := a.start(p)
		if used = n; !whole {
			return used, false, nil
		}
		if a.judged = a.more; !a.more {
			a.last = false
		}
		if !a.begun && 0 < a.seq && a.seq <= firstMost {
			a.next = a.seq
		}
		a.begun = true
		if a.stray = a.expect != aMessage && a.seq != a.next; a.stray && a.more {
			return used, false, lost("number of a packet", a.seq)
		}
		a.next = a.seq + 1
	}
	for !a.judged {
		n, enough := a.look(p[used:], a.wanted())
		used += n
		if !enough {
			return used, false, nil
		}
		if int(a.have) < min(a.wanted(), a.length, headMost) {
			continue // the first byte decides how much is wanted
		}
		if err := a.packet(a.head[:a.have]); err != nil {
			return used, false, err
		}
		a.judged = true
	}
	n, whole := a.pass(len(p) - used)
	used += n
	if whole {
		done = a.end() && a.last
	}
	return used, done, nil
}

// blind returns how many bytes of the packet need not be read.
func (a *answer) blind() int {
	if a.open && a.judged {
		return a.left
	}
	return 0
}

// skip is step for n bytes, at most blind, that the caller does not have.
func (a *answer) skip(n int) (done bool) {
	_, whole := a.pass(n)
	return whole && a.open && a.end() && a.last
}

// okMost is the greatest length of an OK packet up to its status.
const okMost = 1 + 9 + 9 + 2

// wanted returns how many bytes of the packet must be read, as far as that is known.
func (a *answer) wanted() int {
	switch {
	case a.have == 0:
		return 1
	case a.head[0] == 0xff && a.expect != aText:
		return 3
	}
	switch a.expect {
	case aPrepared:
		return 9
	case aResult:
		return okMost
	case aRow, aColumnsEnd:
		if a.head[0] == 0xfe {
			return okMost
		}
	}
	return 1
}

// packet reads a packet's first bytes.
func (a *answer) packet(h []byte) error {
	if a.expect == aText {
		a.last = true
		return nil
	}
	if len(h) == 0 {
		return lost("empty packet", a.seq)
	}
	if h[0] == 0xff {
		return a.errorPacket(h)
	}
	if a.stray { // only an error without a command (the server shuts down) has another id
		return lost("number of a packet", a.seq)
	}
	switch a.expect {
	case aResult:
		return a.result(h)
	case aColumn:
		if a.columns--; a.columns == 0 {
			a.columnsOver()
		}
	case aColumnsEnd:
		if h[0] != 0xfe || a.length >= 9 {
			return lost("end of columns", h[0])
		}
		return a.columnsEnd(h)
	case aRow:
		if h[0] == 0xfe && (a.length < 9 || a.deprecateEOF && a.length < maxPayload) {
			return a.resultEnd(h)
		}
	case aPrepared:
		return a.prepared(h)
	case aMessage:
		a.last = h[0] == 0
	}
	return nil
}

// progressCode is the code of an error packet that reports the progress of a statement (MariaDB).
const progressCode = 0xffff

func (a *answer) errorPacket(h []byte) error {
	if len(h) < 3 {
		return lost("error packet of length", a.length)
	}
	code := binary.LittleEndian.Uint16(h[1:])
	if code == progressCode && a.expect != aMessage {
		return nil
	}
	a.last, a.failed, a.code = true, true, code
	return nil
}

// result reads the first packet of a result.
func (a *answer) result(h []byte) error {
	switch h[0] {
	case 0x00, 0xfe:
		return a.resultEnd(h)
	case 0xfb:
		return lost("request for a file", h[0]) // the copy does not offer files
	}
	n, used := lenenc(h)
	if used == 0 || n == 0 || n > 1<<16 || a.length > used+1 {
		return lost("number of columns", n)
	}
	a.expect, a.columns = aColumn, int(n)
	if a.length == used+1 && h[used] == 0 { // MariaDB: the client has the definitions
		a.columnsOver()
	}
	return nil
}

// resultEnd reads the packet that ends a result: OK or EOF.
func (a *answer) resultEnd(h []byte) error {
	status, ok := statusOf(h, a.length)
	if !ok {
		return lost("end of a result of length", a.length)
	}
	a.expect = aResult
	a.last = status&statusMoreResults == 0
	return nil
}

// statusOf returns the server's status in an OK or EOF packet of that length.
func statusOf(h []byte, length int) (status uint16, ok bool) {
	at := 1
	if h[0] == 0xfe && length == 5 {
		at = 3 // after the number of warnings
	} else {
		for range 2 {
			_, n := lenenc(h[at:])
			if n == 0 {
				return 0, false
			}
			at += n
		}
	}
	if len(h) < at+2 {
		return 0, false
	}
	return binary.LittleEndian.Uint16(h[at:]), true
}

// columnsOver continues after the last column definition.
func (a *answer) columnsOver() {
	switch {
	case !a.deprecateEOF:
		a.expect = aColumnsEnd
	case a.prepare:
		a.listOver()
	default:
		a.expect = aRow
	}
}

// columnsEnd reads the EOF after column definitions. If the server has opened a cursor, no rows
// follow.
func (a *answer) columnsEnd(h []byte) error {
	if a.prepare {
		a.listOver()
		return nil
	}
	status, ok := statusOf(h, a.length)
	switch {
	case !ok:
		return lost("end of columns of length", a.length)
	case status&statusCursorExists != 0:
		return a.resultEnd(h)
	}
	a.expect = aRow
	return nil
}

// prepared reads the first packet of an answer to a prepare.
func (a *answer) prepared(h []byte) error {
	if h[0] != 0 || len(h) < 9 {
		return lost("answer to a prepare", h[0])
	}
	a.id = binary.LittleEndian.Uint32(h[1:])
	a.params = binary.LittleEndian.Uint16(h[7:])
	a.columns, a.then = int(a.params), int(binary.LittleEndian.Uint16(h[5:]))
	if a.columns == 0 {
		a.columns, a.then = a.then, 0
	}
	a.expect = aColumn
	a.last = a.columns == 0
	return nil
}

// listOver continues after a statement's parameters, or its columns.
func (a *answer) listOver() {
	a.columns, a.then = a.then, 0
	a.expect = aColumn
	a.last = a.columns == 0
}
