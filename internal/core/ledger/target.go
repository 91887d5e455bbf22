package ledger

// Target counts the copies that went to one of a mapping's targets.
type Target struct {
	Begun    uint64 // copies begun there, those begun again after a loss among them
	Opened   uint64 // of which the target accepted
	Failed   uint64 // of which could not open, or died: refused, unanswered, unreachable
	Live     uint64 // copies that are there now
	TakenOut uint64 // how often it was taken out for a while
}

// Add adds the counts of u.
func (t *Target) Add(u *Target) {
	t.Begun += u.Begun
	t.Opened += u.Opened
	t.Failed += u.Failed
	t.Live += u.Live
	t.TakenOut += u.TakenOut
}
