package tcp

// maxFilter estimates the maximum of the values of the last rounds by Kathleen Nichols' method. It
// keeps three values: the best, the best since that one, and the best since the second.
type maxFilter struct {
	best [3]valued
}

// valued is a value and its round.
type valued struct {
	round uint32
	value uint64
}

// get returns the maximum.
func (f *maxFilter) get() uint64 { return f.best[0].value }

// add adds a value of a round. Values that are more than window rounds old expire.
func (f *maxFilter) add(window, round uint32, value uint64) {
	now := valued{round, value}
	b := &f.best
	if value >= b[0].value || round-b[2].round > window {
		*b = [3]valued{now, now, now}
		return
	}
	if value >= b[1].value {
		b[1], b[2] = now, now
	} else if value >= b[2].value {
		b[2] = now
	}
	switch age := round - b[0].round; {
	case age > window: // the best expires: the others move up
		b[0], b[1], b[2] = b[1], b[2], now
		if round-b[0].round > window {
			b[0], b[1] = b[1], b[2]
		}
	case b[1].round == b[0].round && age > window/4: // no second best in a quarter of the window
		b[1], b[2] = now, now
	case b[2].round == b[1].round && age > window/2:
		b[2] = now
	}
}
