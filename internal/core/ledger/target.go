package ledger

// Target counts the copies that went to one of a mapping's targets.
type Target struct {
	Begun    uint64 // copies begun there, including those begun again after a loss
	Opened   uint64 // those of them that the target accepted
	Failed   uint64 // those that did not open, or died: refused, unanswered, unreachable
	Live     uint64 // copies that exist there now
	TakenOut uint64 // times that it was taken out
}

// Add adds the counts of u.
func (t *Target) Add(u *Target) {
	t.Begun += u.Begun
	t.Opened += u.Opened
	t.Failed += u.Failed
	t.Live += u.Live
	t.TakenOut += u.TakenOut
}
