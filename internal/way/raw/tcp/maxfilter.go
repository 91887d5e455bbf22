package tcp

// maxFilter knows the largest of the values of the last rounds, by Kathleen Nichols' method: the best, the best
// since then, and the best since that one.
type maxFilter struct {
	best [3]valued
}

type valued struct {
	round uint32
	value uint64
}

func (f *maxFilter) get() uint64 { return f.best[0].value }

// add takes a value of a round. Those that are more than window rounds old count no more.
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
	case age > window: // the next best takes its place
		b[0], b[1], b[2] = b[1], b[2], now
		if round-b[0].round > window {
			b[0], b[1] = b[1], b[2]
		}
	case b[1].round == b[0].round && age > window/4: // a quarter of the window without a second best
		b[1], b[2] = now, now
	case b[2].round == b[1].round && age > window/2:
		b[2] = now
	}
}
