package session

import "tcpcopy/internal/core/reasm"

// Ending is how a connection ended: who was the first to end it, and how.
type Ending uint8

// The endings.
const (
	EndUnknown Ending = iota // it has not ended, or both sides ended it at the same time
	EndByClient
	EndByServer
	EndReset // by the server
)

var endings = [...]string{EndUnknown: "open", EndByClient: "closed by the client",
	EndByServer: "closed by the server", EndReset: "reset by the server"}

// String returns what happened, in a few words.
func (e Ending) String() string { return endings[e] }

// bothEnds is how a connection to production and its copy ended.
type bothEnds struct {
	production, target Ending
	crossed            bool // who was the first is not known
}

// server notes that production's server ends the connection; acked reports that it had received the
// client's end, if that had come.
func (e *bothEnds) server(reset bool, client reasm.End, acked bool) {
	switch {
	case e.production != EndUnknown:
		e.crossed = e.crossed || reset
	case client == reasm.Open && reset:
		e.production = EndReset
	case client == reasm.Open:
		e.production = EndByServer
	case client == reasm.Reset || reset || !acked:
		e.crossed = true
	default:
		e.production = EndByClient
	}
}

// client notes that the client ends the connection; seen reports that it had received the server's
// end, if that had come.
func (e *bothEnds) client(seen bool) {
	if e.production == EndByServer && !seen {
		e.crossed = true
	}
}

// copied notes that the target ends the copy; closing reports that this side had done so before.
func (e *bothEnds) copied(reset, closing bool) {
	switch {
	case e.target != EndUnknown:
	case closing && reset:
		e.crossed = true
	case closing:
		e.target = EndByClient
	case reset:
		e.target = EndReset
	default:
		e.target = EndByServer
	}
}

// differ reports whether the two ended in different ways. Where production's server was the first,
// a copy may have ended before its target had the time to do the same.
func (e *bothEnds) differ() bool {
	return !e.crossed && e.production != EndUnknown && e.target != EndUnknown &&
		e.production != e.target &&
		!(e.production == EndByServer && e.target == EndByClient)
}
