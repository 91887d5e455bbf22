package session

// State is the state of a session.
type State uint8

// The states of a session.
const (
	// Watching: there is no copy. The session opens one at the client's next turn.
	Watching State = iota
	// Opening: the connection to the target is being opened.
	Opening
	// Greeting: the connection of an adopted copy is open, and the session waits for the target's
	// greeting, if it sends one.
	Greeting
	// Flowing: turns go to the target as the gate permits.
	Flowing
	// Closing: the copy's direction is closed, the target's is not.
	Closing
	// Refused: the connection is not copied. Its bytes are counted.
	Refused
	// Gone: nothing is left to do; the shard forgets the session.
	Gone
)

// phase is a State with its sub-state.
//
// A copy is whole if it begins with the client's SYN, and adopted if it begins at a later turn. A
// session found under way is found while only keepalive probes have come of its client, and mid-turn
// once bytes have come, with which it enters the account. Everything else that a session must know
// follows from elsewhere: whether the target has closed from the gate, whether a turn waits from the
// reader's next mark.
//
// The table lists what each event does in each phase, and the phase after it. It assumes that the gate
// is open and that no packets are missing. A session that copies only connections seen from their SYN
// on (Service.WholeOnly) is refused wherever the table says watching/lost. A test drives every cell.
type phase uint8

const (
	watchingNew     phase = iota // the SYN is handed over next
	watchingFound                // found under way; only probes have come
	watchingMidTurn              // found under way, in the middle of a turn
	watchingLost                 // the copy was lost
	openingWhole
	openingAdopted
	greeting
	flowingWhole
	flowingAdopted
	closingUnopened // the client ended before the connection to the target was open
	closingWhole
	closingAdopted
	refusedFound   // like watchingFound
	refusedMidTurn // like watchingMidTurn
	refused        // it is no longer in the account
	gone
)

// phases says what is true of each phase.
var phases = [...]struct {
	name      string
	state     State
	accounted bool // the account holds a session that is under way
	adopted   bool // the copy, or the next one, does not begin with the SYN
}{
	watchingNew:     {"watching/new", Watching, true, false},
	watchingFound:   {"watching/found", Watching, false, true},
	watchingMidTurn: {"watching/mid-turn", Watching, true, true},
	watchingLost:    {"watching/lost", Watching, false, true},
	openingWhole:    {"opening/whole", Opening, true, false},
	openingAdopted:  {"opening/adopted", Opening, true, true},
	greeting:        {"greeting", Greeting, true, true},
	flowingWhole:    {"flowing/whole", Flowing, true, false},
	flowingAdopted:  {"flowing/adopted", Flowing, true, true},
	closingUnopened: {"closing/unopened", Closing, true, false},
	closingWhole:    {"closing/whole", Closing, true, false},
	closingAdopted:  {"closing/adopted", Closing, true, true},
	refusedFound:    {"refused/found", Refused, false, true},
	refusedMidTurn:  {"refused/mid-turn", Refused, true, true},
	refused:         {"refused", Refused, false, true},
	gone:            {"gone", Gone, false, true},
}

// String returns the name of the phase, as in the table.
func (p phase) String() string { return phases[p].name }

// state returns the state without the sub-state.
func (p phase) state() State { return phases[p].state }

// accounted reports whether the session is in the account and its end is not.
func (p phase) accounted() bool { return phases[p].accounted }

// adopted reports whether the copy, or the next one, begins later than with the SYN.
func (p phase) adopted() bool { return phases[p].adopted }

// copied reports whether there is a copy, and so a stream.
func (p phase) copied() bool { return p >= openingWhole && p <= closingAdopted }

// unopened reports whether the connection to the target was asked for and is not open.
func (p phase) unopened() bool {
	return p == openingWhole || p == openingAdopted || p == closingUnopened
}
