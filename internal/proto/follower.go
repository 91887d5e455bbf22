package proto

import "tcpcopy/internal/core/mono"

// Told is what a Follower has found: an answer that has ended, with its times, or, if Bytes is not
// empty, a piece of an answer whose bytes are handed back.
type Told struct {
	Answer
	First, At mono.Time // when its first byte came (of an interim answer too), and its last
	Bytes     []byte    // part of what Feed was given; valid as long as that is
}

// Follower reads the answers on one connection, and notes when each began and ended.
type Follower struct {
	answers Answers
	at      uint64 // the offset of the next byte
	first   mono.Time
	begun   bool
	over    bool
	lost    bool
	digest  Digester       // nil: answers are not compared
	streams StreamDigester // digest, if it is one
}

// Follow returns a Follower of a target's bytes, from the first on.
func Follow(a Answers) Follower { return Follower{answers: a} }

// Digest has each answer digested by d, from the next on that begins. A nil d digests nothing, and
// frees what is kept of an answer.
func (f *Follower) Digest(d Digester) {
	if f.digest != nil {
		f.digest.Close()
	}
	f.digest = d
	f.streams, _ = d.(StreamDigester)
}

// Over reports whether nothing more will be found.
func (f *Follower) Over() bool { return f.over }

// Lost reports whether the bytes could not be followed; then Over is true, too.
func (f *Follower) Lost() bool { return f.lost }

// Lose ends the reading because bytes are missing.
func (f *Follower) Lose() {
	f.lost = true
	f.end()
}

// end ends the reading, and frees what is kept of an answer.
func (f *Follower) end() {
	f.over = true
	f.Digest(nil)
}

// Expect passes a Hint to the reader: see Answers.
func (f *Follower) Expect(request uint64, h Hint) { f.answers.Expect(request, h) }

// Blind returns how many of the next bytes the reader need not see: see Answers.
func (f *Follower) Blind() uint64 {
	if f.over || f.digest != nil {
		return 0
	}
	return f.answers.Blind()
}

// Feed reads the next bytes, which came at now, and appends what was found. scratch is memory for
// the reader's list.
func (f *Follower) Feed(now mono.Time, p []byte, out []Told, scratch *[]Answer) []Told {
	if f.over || len(p) == 0 {
		return out
	}
	kept := f.answers.Kept()
	list, err := f.answers.Feed(p, (*scratch)[:0])
	*scratch = list
	from := 0
	for i := range list {
		// to is where the answer ends in p. The first answer may have begun before p.
		to := int(min(list[i].End-min(list[i].End, f.at), uint64(len(p))))
		out = f.digestPart(now, p[from:max(from, to)], f.at+uint64(max(from, to)), out)
		if to > from && (kept || list[i].Kept) {
			out = append(out, Told{Bytes: p[from:to], At: now})
		}
		from, kept = max(from, to), false
		if list[i].Mark {
			if list[i].Stream != 0 {
				out = append(out, Told{Answer: list[i], First: now, At: now})
			}
			continue
		}
		out = f.tell(now, &list[i], f.at+uint64(len(p)), out)
	}
	if from < len(p) {
		out = f.digestPart(now, p[from:], f.at+uint64(len(p)), out)
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

// Skip is Feed for n bytes that the caller does not have; n is at most Blind.
func (f *Follower) Skip(now mono.Time, n uint64, out []Told, scratch *[]Answer) []Told {
	if f.over || n == 0 {
		return out
	}
	list := f.answers.Skip(n, (*scratch)[:0])
	*scratch = list
	f.at += n
	for i := range list {
		if !list[i].Mark {
			out = f.tell(now, &list[i], f.at, out)
		}
	}
	return out
}

// Close reports the end of the target's direction, and appends the answer that it completes.
func (f *Follower) Close(now mono.Time, out []Told, scratch *[]Answer) []Told {
	if f.over {
		return out
	}
	list := f.answers.Close((*scratch)[:0])
	*scratch = list
	for i := range list {
		out = f.tell(now, &list[i], f.at, out)
	}
	f.end()
	return out
}

// digestPart passes bytes of the present answer, which end at the offset end, to the digester. It
// appends the digests of streams that end there.
func (f *Follower) digestPart(now mono.Time, p []byte, end uint64, out []Told) []Told {
	if f.digest == nil || len(p) == 0 {
		return out
	}
	f.digest.Write(p)
	if f.streams == nil {
		return out
	}
	for {
		stream, d := f.streams.Next()
		if d == nil {
			return out
		}
		out = append(out, Told{Answer: Answer{End: end, Status: d.Status, Mark: true,
			Stream: stream, Digest: d}, First: now, At: now})
	}
}

// begin notes that bytes of an answer have come; it keeps the first time.
func (f *Follower) begin(now mono.Time) {
	if !f.begun {
		f.begun, f.first = true, now
	}
}

// tell appends an answer that has ended. have is the offset behind the bytes that have come.
func (f *Follower) tell(now mono.Time, a *Answer, have uint64, out []Told) []Told {
	f.begin(now)
	out = append(out, Told{Answer: *a, First: f.first, At: now})
	if f.digest != nil {
		out[len(out)-1].Digest = f.digest.End(a)
	}
	if !a.Interim {
		f.begun, f.first = a.End < have, now
	}
	if a.Last {
		f.end()
	}
	return out
}
