package verdict

import (
	"slices"

	"tcpcopy/internal/core/session"
	"tcpcopy/internal/proto"
)

// baseline is what was counted of the old version's answers.
type baseline struct {
	asked    bool
	answered uint64            // requests for which its answer is a baseline
	lacking  map[string]uint64 // requests for which there is none, by the reason
	// old and now are the times of both versions, for the requests that both have answered.
	old, now Times
}

// otherStatus and unreadable are why an answer of the old version is no baseline.
const (
	otherStatus = "other_status"
	unreadable  = "unread"
)

func (b *baseline) lack(why string, n uint64) {
	if b.lacking == nil {
		b.lacking = make(map[string]uint64)
	}
	b.lacking[why] += n
}

// total adds what another shard has counted, but for the times.
func (b *baseline) total(o *baseline) {
	b.asked = b.asked || o.asked
	b.answered += o.answered
	for why, n := range o.lacking {
		b.lack(why, n)
	}
}

// basis is what the differences between production and the candidate are judged by.
type basis uint8

const (
	byNothing  basis = iota
	byEarlier        // production's earlier answer to the same request
	byBaseline       // the old version's answer
	// byStatus: by nothing, since the old version's answer has another status than the two.
	byStatus
)

// findBasis finds what an exchange is judged by, and how that differs from production's answer.
func (t *Tally) findBasis(x *session.Exchange, earlier *proto.Digest) {
	t.by, t.noise, t.apart = byNothing, t.noise[:0], t.apart[:0]
	switch old := t.baselineOf(x); {
	case old == nil && (earlier == nil || x.Target == nil):
	case old == nil:
		t.by = byEarlier
		t.noise, _ = t.differences(t.noise, earlier, x.Production, x.Unordered)
	case x.Target == nil: // then it is not known in what else the two differ
		t.by = byBaseline
		t.count.baseline.answered++
	default:
		t.by = byBaseline
		t.noise, _ = t.differences(t.noise, x.Production, old, x.Unordered)
		switch {
		case x.Target.Status != x.Production.Status: // nor here
			t.noise = slices.DeleteFunc(t.noise, func(d difference) bool {
				return d.kind != Status
			})
		case old.Status != x.Production.Status:
			t.by = byStatus
			t.count.baseline.lack(otherStatus, 1)
			return
		}
		t.count.baseline.answered++
		if len(t.found) > 0 && len(t.noise) > 0 {
			t.apart, _ = t.differences(t.apart, old, x.Target, x.Unordered)
		}
	}
}

// baselineOf returns the old version's answer; nil if there is none that can be compared as well as
// production's.
func (t *Tally) baselineOf(x *session.Exchange) *proto.Digest {
	b, old := &t.count.baseline, x.Baseline
	if x.Took > 0 && x.BaselineTook > 0 {
		b.asked = true
		b.old.note(x.BaselineAt, x.BaselineTook)
		b.now.note(x.At, x.Took)
	}
	if old == nil {
		if x.NoBaseline != "" {
			b.asked = true
			b.lack(x.NoBaseline, 1)
		}
		return nil
	}
	b.asked = true
	if !old.Same(x.Production) {
		old.Unpack(t.with)
		x.Production.Unpack(t.with)
		if old.Skipped != x.Production.Skipped {
			b.lack(unreadable, 1)
			return nil
		}
	}
	return old
}

// stance is what a difference between production and the candidate says.
type stance uint8

const (
	isAlone    stance = iota // the candidate differs, and its basis does not
	isBoth                   // the old version differs in the same way
	isBlind                  // it cannot be told
	isExpected               // the value is of a kind that is expected to differ
)

// stance returns what a difference says that is counted in c.
func (t *Tally) stance(c *count, d *difference) stance {
	noisy := has(t.noise, d.path)
	based := t.by == byEarlier || t.by == byBaseline
	switch {
	case d.expected != proto.Plain && (!based || c.known != proto.Plain || noisy):
		return isExpected
	case t.by == byBaseline:
		return t.besideBaseline(d, noisy)
	case d.kind.content() && (!based || noisy):
		return isBlind
	}
	return isAlone
}

// besideBaseline is stance for what the old version has answered, too; noisy reports that its
// answer differs from production's there. Another type, say, is not to be confused with a value
// that differs at both.
func (t *Tally) besideBaseline(d *difference, noisy bool) stance {
	switch {
	case d.kind.content() && !noisy:
		return isAlone
	case d.kind.content() && !has(t.apart, d.path):
		return isBoth
	case d.kind.content():
		return isBlind
	}
	n := structural(t.noise, d.path)
	switch {
	case n == nil:
		return isAlone
	case n.path == d.path && placeOf("", n) == placeOf("", d):
		return isBoth
	}
	return isBlind
}

// structural returns the difference of more than content that concerns a path; nil if there is
// none.
func structural(all []difference, path string) *difference {
	for i := range all {
		if d := &all[i]; !d.kind.content() && within(path, []string{d.path}) {
			return d
		}
	}
	return nil
}

// blame counts the differences between production and its basis that the candidate does not have:
// they speak against those that it has alone. As with the candidate, a session counts once.
func (t *Tally) blame(name string, u *session.Unit) {
	byOld, differs := t.by == byBaseline || t.by == byStatus, false
	for i := range t.noise {
		d := &t.noise[i]
		switch {
		case !byOld && !d.kind.content():
			continue
		case d.kind.content() && has(t.found, d.path), structural(t.found, d.path) != nil:
			continue
		case byOld && t.rules.silences(name, d, nil):
			continue
		}
		switch c := t.count.at(placeOf(name, d)); {
		case c == nil:
		case d.expected != proto.Plain: // from now on it is expected to differ
			c.known = d.expected
		case !byOld:
			c.base++
		default:
			differs = true
			if !u.Baseline.Diverged {
				c.base++
			}
		}
	}
	if byOld {
		went(&u.Baseline, differs)
	}
}
