package mysql

import (
	"encoding/binary"

	"tcpcopy/internal/core/ledger"
)

// Bounds of what is remembered for one connection.
const (
	maxStatements = 1 << 16
	maxNumbered   = 1 << 10
)

// lastStatement is the id that stands for the statement prepared last (MariaDB).
const lastStatement = 0xffffffff

// unknownFrom is the first of the ids that stand for production's if there is nothing to count
// from.
const unknownFrom = 1 << 31

// statement is a prepared statement, as the target has it.
type statement struct {
	id       uint32 // the target's id
	params   uint16
	answered bool          // id and params are known
	why      ledger.Reason // if not None: why the target does not have it
}

// numbered is a statement's id and the offset, in the server's direction, of the answer that has
// it.
type numbered struct {
	at     uint64
	number uint32
}

// statements maps production's ids of prepared statements to the target's.
//
// Production's id is at the beginning of its answer, which is captured. If it was not captured, or
// not yet, it is counted: a server numbers the statements of a connection from 1 on.
type statements struct {
	byNumber map[uint32]statement
	last     uint32     // the id before the next one
	newest   uint32     // the id of the statement prepared last
	unsure   bool       // the connection was found under way: last is not one of production's ids
	reading  bool       // reply has begun
	asked    []uint32   // the ids of prepares that the target has not answered
	told     []numbered // captured answers to prepares that were not fed yet
	counted  []numbered // statements whose id was counted, as long as the answer was not captured
	reply    answer     // of the target
}

// full reports whether there is no room for another statement.
func (x *statements) full() bool { return len(x.byNumber) >= maxStatements }

// prepare notes a prepare that the client sent when it had seen that many bytes of the server.
// alone reports whether the client had waited for all answers before. If why is not None, the
// target does not get it.
func (x *statements) prepare(seen uint64, alone bool, why ledger.Reason) {
	number, known := uint32(0), false
	if alone {
		number, known = x.captureOf(seen)
	}
	switch {
	case known:
		x.unsure = false
	case x.unsure:
		number = max(x.last+1, unknownFrom)
	default:
		number = x.last + 1
	}
	x.last, x.newest = number, number
	if x.byNumber == nil {
		x.byNumber = make(map[uint32]statement)
	}
	if why == ledger.None || !x.full() {
		x.byNumber[number] = statement{why: why}
	}
	if why == ledger.None {
		x.asked = append(x.asked, number)
	}
	if !known && alone {
		x.counted = append(trimmed(x.counted), numbered{seen, number})
	}
}

// trimmed returns list without its first element if it is full.
func trimmed(list []numbered) []numbered {
	if len(list) < maxNumbered {
		return list
	}
	return list[:copy(list, list[1:])]
}

// captureOf returns the id in production's answer that begins at the offset at, if it was
// captured.
func (x *statements) captureOf(at uint64) (number uint32, ok bool) {
	for i, n := range x.told {
		if n.at >= at {
			if ok = n.at == at; ok {
				number = n.number
				i++
			}
			x.told = x.told[:copy(x.told, x.told[i:])]
			return number, ok
		}
	}
	x.told = x.told[:0]
	return 0, false
}

// preparedLen is how many bytes of an answer to a prepare are needed.
const preparedLen = headerLen + 1 + 4

// captured reads bytes of production's server from the offset at on, if they may begin the answer
// to a prepare.
func (x *statements) captured(at uint64, p []byte) {
	if len(p) < preparedLen || p[0] < 12 || p[0] > 13 || p[1] != 0 || p[2] != 0 || p[3] != 1 ||
		p[4] != 0 {
		return
	}
	number := binary.LittleEndian.Uint32(p[headerLen+1:])
	for i, n := range x.counted {
		if n.at == at {
			x.counted = x.counted[:i+copy(x.counted[i:], x.counted[i+1:])]
			x.renumber(n.number, number)
			return
		}
	}
	x.told = append(trimmed(x.told), numbered{at, number})
}

// renumber corrects an id that was counted.
func (x *statements) renumber(from, to uint32) {
	if x.last == from {
		x.last, x.unsure = to, false
	}
	if x.newest == from {
		x.newest = to
	}
	s, ok := x.byNumber[from]
	if from == to || !ok {
		return
	}
	delete(x.byNumber, from)
	x.byNumber[to] = s
	for i := range x.asked {
		if x.asked[i] == from {
			x.asked[i] = to
		}
	}
}

// find returns the statement that has an id at production.
func (x *statements) find(number uint32) (statement, bool) {
	if number == lastStatement {
		number = x.newest
	}
	s, ok := x.byNumber[number]
	return s, ok
}

// close removes a statement.
func (x *statements) close(number uint32) {
	if number == lastStatement {
		number = x.newest
	}
	delete(x.byNumber, number)
}

// clear removes all statements; counting goes on.
func (x *statements) clear() {
	clear(x.byNumber)
	x.counted = x.counted[:0]
}

// waiting reports whether the target has prepares to answer.
func (x *statements) waiting() bool { return len(x.asked) > 0 }

// answer reads bytes of the target's answers to prepares, at most to the end of one.
func (x *statements) answer(p []byte, deprecateEOF bool) (used int, err error) {
	if len(x.asked) == 0 {
		return 0, lost("answer to no prepare, of length", len(p))
	}
	if !x.reading {
		x.reply.deprecateEOF = deprecateEOF
		x.reply.begin(hintPrepare)
		x.reading = true
	}
	used, done, err := x.reply.step(p)
	if err != nil || !done {
		return used, err
	}
	number := x.asked[0]
	x.asked = x.asked[:copy(x.asked, x.asked[1:])]
	x.reading = false
	switch s, ok := x.byNumber[number]; {
	case !ok:
	case x.reply.failed: // as at production, there is no statement to close
		delete(x.byNumber, number)
	default:
		s.id, s.params, s.answered = x.reply.id, x.reply.params, true
		x.byNumber[number] = s
	}
	return used, nil
}
