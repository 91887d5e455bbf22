package mysql

import (
	"encoding/binary"

	"tcpcopy/internal/core/ledger"
)

// Bounds of what is remembered for one connection.
const (
	maxStatements = 1 << 16
	maxNumbered   = 64
)

// lastStatement stands for the statement that was prepared last (MariaDB).
const lastStatement = 0xffffffff

// unknownFrom is where numbers begin that stand in for production's, where there is nothing to count from.
const unknownFrom = 1 << 31

// statement is one that production's server has under a number of its own.
type statement struct {
	id       uint32 // the target's number
	params   uint16
	answered bool
	why      ledger.Reason // it is not there at the target
}

// numbered is a number, and where the answer begins, in the server's direction, that says it.
type numbered struct {
	at     uint64
	number uint32
}

// statements maps production's numbers of prepared statements to the target's.
//
// Production's number is at the beginning of its answer, which is captured. Where it was not, or not yet, it
// is counted: both servers number all that is prepared on a connection from 1 on.
type statements struct {
	byNumber map[uint32]statement
	last     uint32 // what is counted from
	newest   uint32 // the number of what was prepared last
	unsure   bool   // the connection was found under way: last is no number of production's
	reading  bool   // reply is under way
	asked    []uint32
	told     []numbered // captured, of answers to what is still to come
	counted  []numbered // statements whose number was not captured yet
	reply    answer     // the target's that is coming in
}

// full says that another statement would be too many.
func (x *statements) full() bool { return len(x.byNumber) >= maxStatements }

// prepare notes a prepare that the client sent when it had seen that many of the server's bytes; alone says
// that it had waited for all answers to what it had sent before. With a reason, the target was not asked.
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

// trimmed makes room for one more.
func trimmed(list []numbered) []numbered {
	if len(list) < maxNumbered {
		return list
	}
	return list[:copy(list, list[1:])]
}

// captureOf finds the number that production's answer says which begins at the offset at.
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

// preparedLen is how much of an answer to a prepare must have been captured.
const preparedLen = headerLen + 1 + 4

// captured takes bytes of production's server from the offset at on, if they may begin the answer to a prepare.
func (x *statements) captured(at uint64, p []byte) {
	if len(p) < preparedLen || p[0] < 12 || p[0] > 13 || p[1] != 0 || p[2] != 0 || p[3] != 1 || p[4] != 0 {
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

// renumber corrects what was counted.
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

// find returns the statement of a number of production's.
func (x *statements) find(number uint32) (statement, bool) {
	if number == lastStatement {
		number = x.newest
	}
	s, ok := x.byNumber[number]
	return s, ok
}

// close forgets a statement.
func (x *statements) close(number uint32) {
	if number == lastStatement {
		number = x.newest
	}
	delete(x.byNumber, number)
}

// clear forgets all statements; numbers go on.
func (x *statements) clear() {
	clear(x.byNumber)
	x.counted = x.counted[:0]
}

// waiting says that the target has not answered all prepares.
func (x *statements) waiting() bool { return len(x.asked) > 0 }

// answered takes bytes of the target's answers to prepares, at most to the end of one.
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
	case x.reply.failed: // nobody closes what production has refused, too
		delete(x.byNumber, number)
	default:
		s.id, s.params, s.answered = x.reply.id, x.reply.params, true
		x.byNumber[number] = s
	}
	return used, nil
}
