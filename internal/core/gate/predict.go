package gate

// predictor predicts the length of the target's answer from the length of production's answer to
// the same turn. It tries three rules, the most specific first: the target answers each length with
// the length seen before; its lengths equal production's; its lengths lie on a straight line over
// production's (a ratio, an offset, or both). A rule that fails needs more hits to be trusted
// again.
type predictor struct {
	memo  [memoSize]memo
	equal streak
	line  line
	near  nearLine

	// How many of the latest answers came to as much as production's, and how many did not.
	same, other uint16
}

// memoSize is the number of memos: a hash of a has 6 bits.
const memoSize = 64

// latest is on how many answers mostlyEqual is based.
const latest = 256

// memo is the length b that the target last answered where production answered a.
type memo struct {
	a, b uint64
	streak
}

// streak counts hits in a row. Each miss raises the number that trust needs.
type streak struct {
	hits   uint16
	misses uint8
}

// maxMisses bounds a streak's misses.
const maxMisses = 7

// hit notes a success.
func (s *streak) hit() {
	if s.hits < 1<<15 {
		s.hits++
	}
	if s.misses > 0 && s.hits >= 64<<min(s.misses, 4) {
		s.misses--
	}
}

// miss notes a failure.
func (s *streak) miss() {
	s.hits = 0
	if s.misses < maxMisses {
		s.misses++
	}
}

// trusted reports whether there were enough hits: need, doubled for each miss.
func (s *streak) trusted(need int) bool { return int(s.hits) >= need<<s.misses }

// line is the straight line through two answers of different lengths: (a1, b1) and (a2, b2).
type line struct {
	a1, b1, a2, b2 uint64
	points         uint8 // how many are known: 0 to 2
	streak
}

// at returns the line's value at a. ok is false unless the value is a positive whole number.
func (l *line) at(a uint64) (b uint64, ok bool) {
	if l.points < 2 {
		return 0, false
	}
	da, db := int64(l.a2-l.a1), int64(l.b2-l.b1)
	const limit = 1 << 31 // products below stay within 63 bits
	x := int64(a - l.a1)
	if abs(da) > limit || abs(db) > limit || abs(x) > limit {
		return 0, false
	}
	p := x * db
	if p%da != 0 {
		return 0, false
	}
	y := int64(l.b1) + p/da
	return uint64(y), y > 0
}

// abs returns the absolute value of x.
func abs(x int64) int64 {
	if x < 0 {
		return -x
	}
	return x
}

// learn adds a point. The line stays while new points lie on it; otherwise it is drawn anew,
// through the last two points of different lengths.
func (l *line) learn(a, b uint64) {
	if l.points == 2 {
		if p, ok := l.at(a); ok && p == b {
			if a != l.a1 && a != l.a2 { // the line's own points prove nothing
				l.hit()
			}
			return
		}
		l.miss()
		if a != l.a2 {
			l.a1, l.b1 = l.a2, l.b2
		}
		l.a2, l.b2 = a, b
		return
	}
	if l.points == 1 && a != l.a1 {
		l.a2, l.b2, l.points = a, b, 2
		return
	}
	l.a1, l.b1, l.points = a, b, 1
}

// nearLine is a straight line on which lengths lie but for rounding, as of a target that answers in
// another encoding. It is drawn through the points of the shortest and the longest answers of
// production: (a1, b1) and (a2, b2). It predicts no length to wait for, only that an answer may be
// whole.
type nearLine struct {
	a1, b1, a2, b2 uint64
	points         uint8 // how many are known: 0 to 2
	streak
}

// nearSlack is how far from the line a length may be, in bytes: both points of the line are rounded
// as well.
const nearSlack = 2

// meets reports whether the point (a, b) is on the line.
func (l *nearLine) meets(a, b uint64) bool {
	const limit = 1 << 28 // products below stay within 62 bits
	if l.points < 2 || max(a, b, l.a2, l.b1, l.b2) > limit {
		return false
	}
	da, db := int64(l.a2-l.a1), int64(l.b2)-int64(l.b1)
	off := (int64(b)-int64(l.b1))*da - (int64(a)-int64(l.a1))*db
	return abs(off) <= nearSlack*da
}

// learn adds a point. A line that fails is drawn anew.
func (l *nearLine) learn(a, b uint64) {
	switch {
	case l.points == 0 || l.points == 1 && a == l.a1:
		l.a1, l.b1, l.points = a, b, 1
	case l.points == 1 && a < l.a1:
		l.a1, l.b1, l.a2, l.b2, l.points = a, b, l.a1, l.b1, 2
	case l.points == 1:
		l.a2, l.b2, l.points = a, b, 2
	case !l.meets(a, b):
		l.miss()
		l.a1, l.b1, l.points = a, b, 1
	default:
		switch { // the line's own points prove nothing
		case a < l.a1:
			l.a1, l.b1 = a, b
			l.hit()
		case a > l.a2:
			l.a2, l.b2 = a, b
			l.hit()
		case a != l.a1 && a != l.a2:
			l.hit()
		}
	}
}

// slot returns the place of the memo for a.
func (p *predictor) slot(a uint64) *memo { return &p.memo[(a*0x9e3779b97f4a7c15)>>58] }

// learn takes the lengths of one answer, production's and the target's.
func (p *predictor) learn(a, b uint64) {
	if a == b {
		p.equal.hit()
	} else {
		p.equal.miss()
	}
	p.line.learn(a, b)
	p.near.learn(a, b)
	switch m := p.slot(a); {
	case m.a != a:
		*m = memo{a: a, b: b, streak: streak{hits: 1}}
	case m.b == b:
		m.hit()
	default:
		m.b = b
		m.miss()
	}
}

// size returns how many bytes the target is expected to answer where production answered a.
func (p *predictor) size(a uint64) (b uint64, ok bool) {
	if m := p.slot(a); m.a == a {
		if m.trusted(2) {
			return m.b, true
		}
		if m.misses > 0 { // this very length has been answered with different lengths
			return 0, false
		}
	}
	if p.equal.trusted(1) {
		return a, true
	}
	if p.line.trusted(3) {
		return p.line.at(a)
	}
	return 0, false
}

// nearly reports whether an answer of length b, where production answered a, is about as long as
// other answers lead to expect.
func (p *predictor) nearly(a, b uint64) bool { return p.near.trusted(4) && p.near.meets(a, b) }

// maybeEqual reports whether no recent answer has differed in length from production's.
func (p *predictor) maybeEqual() bool { return p.equal.misses == 0 }

// count notes whether n answers together came to as much as production's.
func (p *predictor) count(equal bool, n uint16) {
	if p.same+p.other >= latest {
		p.same, p.other = p.same/2, p.other/2
	}
	if equal {
		p.same += n
	} else {
		p.other += n
	}
}

// mostlyEqual reports whether at least four of five recent answers came to as much as production's.
func (p *predictor) mostlyEqual() bool { return p.same >= 8 && p.same >= 4*p.other }

// contradict notes that the target continued after the predicted end of an answer.
func (p *predictor) contradict(a uint64) {
	if m := p.slot(a); m.a == a {
		m.miss()
	}
	p.equal.miss()
	p.line.miss()
	p.near.miss()
}
