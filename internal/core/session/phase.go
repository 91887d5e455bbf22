package session

// State is the state of a session.
type State uint8

// The states of a session.
const (
	// Watching: there is no copy. The session opens one at the client's next turn.
	Watching State = iota
	// Waiting: a copy is to begin, and waits until the Opener lets it.
	Waiting
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
// session found under way is "found" while only keepalive probes have come of its client, and
// "mid-turn" once bytes have come; with these it enters the account. Everything else follows from
// elsewhere: the gate knows whether the target has closed, and the reader's next mark is a turn
// that waits.
//
// The table lists what each event does in each phase. A session without a copy opens one at the
// client's next turn; one whose client has ended is gone. If only connections seen from their SYN
// on are copied (Service.WholeOnly), "refused" takes the place of "watching/lost".
//
// Events of the client: bytes continue a turn, or follow a lull, or begin a turn after an answer;
// the target has answered as well, and perhaps closed ("turn after shut"). FIN and RST come when
// nothing waits for an answer; either server's RST acts as the client's. Events of the stream come
// for a copy that was given its first bytes and, once open, has taken them; they are ignored if
// there is none. An adopted copy whose protocol makes its bytes (opened to edit) does not wait for
// a greeting. A reset comes after everything was acknowledged, a failure before. The Opener lets
// the copy begin that waits ("ready"). If turns are held for a target that is away (Service.Hold),
// a copy that could not open waits again ("held failure"), and so does one that was reset before
// the target had anything of its second turn ("held reset"), until "hold over". A protocol of
// streams may need another connection for what it holds back ("reopens", of proto.Streams), or to
// read the target's first bytes, which it has missed (the same, if nothing was asked). Timers:
// greeted (the greeting has come, or will not), gap (missing bytes are given up), gate limit,
// stall, idle.
//
// Actions: count the session in the account; open, abort or close (FIN) the copy's stream; send
// bytes to it; account for the session as delivered or as dropped for a reason. A test drives every
// cell.
//
//	event            in                 next               action
//	SYN              watching/new       waiting/whole      -
//	                 gone               never              -
//	                 others             same               -
//	bytes            watching/found     watching/mid-turn  count
//	                 refused/found      refused/mid-turn   count
//	                 opening/whole      same               send
//	                 flowing/*          same               send
//	                 watching/new       never              -
//	                 gone               never              -
//	                 others             same               -
//	lull             watching/mid-turn  waiting/adopted    -
//	                 watching/found     waiting/adopted    count
//	                 watching/lost      waiting/adopted    count
//	                 refused/found      refused/mid-turn   count
//	                 opening/whole      same               send
//	                 flowing/*          same               send
//	                 watching/new       never              -
//	                 gone               never              -
//	                 others             same               -
//	turn             watching/mid-turn  waiting/adopted    -
//	                 watching/found     waiting/adopted    count
//	                 watching/lost      waiting/adopted    count
//	                 refused/found      refused/mid-turn   count
//	                 flowing/*          same               send
//	                 watching/new       never              -
//	                 gone               never              -
//	                 others             same               -
//	turn after shut  flowing/*          waiting/adopted    count, abort, drop target_closed
//	                 waiting/*          same               -
//	                 greeting           same               -
//	                 closing/whole      same               -
//	                 closing/adopted    same               -
//	                 others             never              -
//	probe            watching/new       never              -
//	                 gone               never              -
//	                 others             same               -
//	FIN, Drain       watching/mid-turn  gone               drop no_syn
//	                 refused/mid-turn   gone               drop no_syn
//	                 watching/found     gone               -
//	                 watching/lost      gone               -
//	                 refused/found      gone               -
//	                 refused            gone               -
//	                 opening/whole      closing/unopened   close
//	                 flowing/whole      closing/whole      close
//	                 flowing/adopted    closing/adopted    close
//	                 watching/new       never              -
//	                 gone               never              -
//	                 others             same               -
//	RST, Superseded  watching/mid-turn  gone               drop no_syn
//	                 refused/mid-turn   gone               drop no_syn
//	                 watching/found     gone               -
//	                 watching/lost      gone               -
//	                 refused/found      gone               -
//	                 refused            gone               -
//	                 waiting/*          same               -
//	                 opening/*          same               -
//	                 greeting           same               -
//	                 closing/unopened   same               -
//	                 watching/new       never              -
//	                 gone               never              -
//	                 others             gone               abort, deliver
//	ready            waiting/whole      opening/whole      open
//	                 waiting/adopted    opening/adopted    open
//	                 others             same               -
//	hold over        waiting/*          watching/lost      drop target_refused
//	                 others             same               -
//	opened           opening/whole      flowing/whole      -
//	                 opening/adopted    greeting           -
//	                 closing/unopened   closing/whole      -
//	                 watching/new       never              -
//	                 others             same               -
//	opened to edit   opening/whole      flowing/whole      -
//	                 opening/adopted    flowing/adopted    -
//	                 others             never              -
//	greeted          greeting           flowing/adopted    send
//	                 watching/new       never              -
//	                 others             same               -
//	taken, received  watching/new       never              -
//	                 others             same               -
//	shut             watching/new       never              -
//	                 others             same               -
//	finished         opening/*          gone               deliver
//	                 greeting           gone               deliver
//	                 flowing/*          gone               deliver
//	                 closing/*          gone               deliver
//	                 watching/new       never              -
//	                 others             same               -
//	reset            watching/new       never              -
//	                 opening/*          watching/lost      drop target_reset
//	                 greeting           watching/lost      drop target_reset
//	                 flowing/*          watching/lost      drop target_reset
//	                 closing/*          gone               deliver
//	                 others             same               -
//	failed           watching/new       never              -
//	                 opening/*          watching/lost      drop target_refused
//	                 greeting           watching/lost      drop target_refused
//	                 flowing/*          watching/lost      drop target_refused
//	                 closing/*          gone               drop target_refused
//	                 others             same               -
//	held failure     opening/whole      waiting/whole      -
//	                 opening/adopted    waiting/adopted    -
//	                 closing/unopened   waiting/whole      -
//	                 others             never              -
//	held reset       flowing/*          waiting/adopted    send
//	                 greeting           waiting/adopted    -
//	                 others             never              -
//	reopens          flowing/whole      opening/whole      send, abort, open
//	                 flowing/adopted    opening/adopted    send, abort, open
//	                 others             never              -
//	gap              opening/*          watching/lost      abort, drop capture_gap
//	                 greeting           watching/lost      abort, drop capture_gap
//	                 flowing/*          watching/lost      abort, drop capture_gap
//	                 watching/new       never              -
//	                 gone               never              -
//	                 waiting/*          watching/lost      drop capture_gap
//	                 others             same               -
//	gate limit       opening/whole      watching/lost      abort, drop gate_timeout
//	                 flowing/*          watching/lost      abort, drop gate_timeout
//	                 opening/adopted    same               -
//	                 greeting           same               -
//	                 closing/*          same               -
//	                 others             never              -
//	stall            opening/whole      watching/lost      send, abort, drop send_timeout
//	                 flowing/*          watching/lost      send, abort, drop send_timeout
//	                 closing/unopened   gone               abort, drop send_timeout
//	                 closing/whole      gone               abort, deliver
//	                 closing/adopted    gone               abort, deliver
//	                 opening/adopted    same               -
//	                 greeting           same               -
//	                 others             never              -
//	idle             watching/mid-turn  gone               drop no_syn
//	                 refused/mid-turn   gone               drop no_syn
//	                 watching/found     gone               -
//	                 watching/lost      gone               -
//	                 refused/found      gone               -
//	                 refused            gone               -
//	                 waiting/*          gone               drop idle_timeout
//	                 opening/adopted    gone               abort, drop idle_timeout
//	                 greeting           gone               abort, drop idle_timeout
//	                 closing/unopened   gone               abort, drop idle_timeout
//	                 watching/new       never              -
//	                 gone               same               -
//	                 others             gone               abort, deliver
//	Shutdown         watching/mid-turn  gone               drop no_syn
//	                 refused/mid-turn   gone               drop no_syn
//	                 watching/found     gone               -
//	                 watching/lost      gone               -
//	                 refused/found      gone               -
//	                 refused            gone               -
//	                 waiting/*          gone               drop shutdown
//	                 opening/adopted    gone               abort, drop shutdown
//	                 greeting           gone               abort, drop shutdown
//	                 closing/unopened   gone               abort, drop shutdown
//	                 watching/new       never              -
//	                 gone               same               -
//	                 others             gone               abort, deliver
//	Refuse           watching/mid-turn  refused            drop over_memory
//	                 watching/found     refused            count, drop over_memory
//	                 watching/lost      refused            -
//	                 waiting/*          refused            drop over_memory
//	                 opening/*          refused            abort, drop over_memory
//	                 greeting           refused            abort, drop over_memory
//	                 flowing/*          refused            abort, drop over_memory
//	                 closing/*          gone               abort, drop over_memory
//	                 watching/new       never              -
//	                 others             same               -
//	End              watching/mid-turn  gone               drop no_syn
//	                 refused/mid-turn   gone               drop no_syn
//	                 watching/found     gone               -
//	                 watching/lost      gone               -
//	                 refused/found      gone               -
//	                 refused            gone               -
//	                 waiting/*          gone               drop over_memory
//	                 watching/new       never              -
//	                 gone               same               -
//	                 others             gone               abort, drop over_memory
type phase uint8

const (
	watchingNew     phase = iota // the SYN is handed over next
	watchingFound                // found under way; only probes have come
	watchingMidTurn              // found under way, in the middle of a turn
	watchingLost                 // the copy was lost
	waitingWhole                 // a copy waits that begins with the SYN
	waitingAdopted               // a copy waits that begins with a turn
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
	waitingWhole:    {"waiting/whole", Waiting, true, false},
	waitingAdopted:  {"waiting/adopted", Waiting, true, true},
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
