package proto

import "tcpcopy/internal/core/mono"

// Told is what a Follower has found: an answer that has ended, with the times that its reader cannot
// know, or, where Bytes is not empty, a piece of an answer that is wanted.
type Told struct {
	Answer
	First, At mono.Time // when its first byte came, interim answers' included, and its last
	Bytes     []byte    // a view of what Feed was given
}

// Follower is an Answers on one connection, and when the answer began that is coming in.
type Follower struct {
	answers Answers
	at      uint64 // the offset of the next byte
	first   mono.Time
	begun   bool
	over    bool
	lost    bool
}

// Follow begins to follow a target's bytes, from the first on.
func Follow(a Answers) Follower { return Follower{answers: a} }

// Over says that nothing more will be told.
func (f *Follower) Over() bool { return f.over }

// Lost says that the bytes could not be followed; Over is true then, too.
func (f *Follower) Lost() bool { return f.lost }

// Lose ends the following, since bytes are missing or nobody has them.
func (f *Follower) Lose() { f.over, f.lost = true, true }

// Expect is of Answers.
func (f *Follower) Expect(request uint64, h Hint) { f.answers.Expect(request, h) }

// Blind is of Answers.
func (f *Follower) Blind() uint64 {
	if f.over {
		return 0
	}
	return f.answers.Blind()
}

// Feed hands on the next bytes, which came at now, and appends what was found. scratch is room for the
// reader's own list.
func (f *Follower) Feed(now mono.Time, p []byte, out []Told, scratch *[]Answer) []Told {
	if f.over || len(p) == 0 {
		return out
	}
	kept := f.answers.Kept()
	list, err := f.answers.Feed(p, (*scratch)[:0])
	*scratch = list
	from := 0
	for i := range list {
		// Where an answer ends in p; the first may have begun before it.
		to := int(min(list[i].End-min(list[i].End, f.at), uint64(len(p))))
		if to > from && (kept || list[i].Kept) {
			out = append(out, Told{Bytes: p[from:to], At: now})
		}
		from, kept = max(from, to), false
		out = f.tell(now, &list[i], f.at+uint64(len(p)), out)
	}
	if from < len(p) {
		if kept || err == nil && f.answers.Kept() {
			out = append(out, Told{Bytes: p[from:], At: now})
		}
		f.begin(now)
	}
	f.at += uint64(len(p))
	if err != nil {
		f.Lose()
	}
	return out
}

// Skip is Feed for n bytes that nobody has, at most Blind.
func (f *Follower) Skip(now mono.Time, n uint64, out []Told, scratch *[]Answer) []Told {
	if f.over || n == 0 {
		return out
	}
	list := f.answers.Skip(n, (*scratch)[:0])
	*scratch = list
	f.at += n
	for i := range list {
		out = f.tell(now, &list[i], f.at, out)
	}
	return out
}

// Close says that the target has ended its direction.
func (f *Follower) Close(now mono.Time, out []Told, scratch *[]Answer) []Told {
	if f.over {
		return out
	}
	list := f.answers.Close((*scratch)[:0])
	*scratch = list
	for i := range list {
		out = f.tell(now, &list[i], f.at, out)
	}
	f.over = true
	return out
}

// begin notes that bytes of an answer have come.
func (f *Follower) begin(now mono.Time) {
	if !f.begun {
		f.begun, f.first = true, now
	}
}

// tell appends an answer that has ended, where the bytes up to have were there.
func (f *Follower) tell(now mono.Time, a *Answer, have uint64, out []Told) []Told {
	f.begin(now)
	out = append(out, Told{Answer: *a, First: f.first, At: now})
	if !a.Interim {
		f.begun, f.first = a.End < have, now
	}
	if a.Last {
		f.over = true
	}
	return out
}
