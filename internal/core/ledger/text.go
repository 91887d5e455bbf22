package ledger

import (
	"cmp"
	"slices"
)

// maxTexts is how many texts are counted.
const maxTexts = 64

// MaxText is how long a text may be, in bytes.
const MaxText = 128

// Texts counts what a server says of answers that report an error, by their class. Only the most
// frequent texts are kept: one that comes when there is no room takes the place of the rarest,
// which counts as another from then on. The zero value is empty. A Texts can be copied.
type Texts struct {
	list  [maxTexts]text
	n     int
	next  int    // behind the text that was replaced last
	Other uint64 // answers whose text is not kept
}

type text struct {
	count uint64
	class Class
	len   uint8
	bytes [MaxText]byte
}

// Text is a text that was counted.
type Text struct {
	Class Class
	Text  string
	Count uint64
}

// Note counts a text, of which more than MaxText bytes are cut off.
func (t *Texts) Note(c Class, s string) { t.add(c, s[:min(len(s), MaxText)], 1) }

func (t *Texts) add(c Class, s string, count uint64) {
	rarest := -1
	for i := range t.list[:t.n] {
		// Of the rarest the one goes that has been there for longest.
		i = (t.next + i) % t.n
		e := &t.list[i]
		if e.class == c && string(e.bytes[:e.len]) == s {
			e.count += count
			return
		}
		if rarest < 0 || e.count < t.list[rarest].count {
			rarest = i
		}
	}
	switch {
	case t.n < maxTexts:
		rarest = t.n
		t.n++
	case t.list[rarest].count > count:
		t.Other += count
		return
	default:
		t.Other += t.list[rarest].count
		t.next = (rarest + 1) % maxTexts
	}
	e := &t.list[rarest]
	*e = text{count: count, class: c, len: uint8(len(s))}
	copy(e.bytes[:], s)
}

// Add adds the counts of o.
func (t *Texts) Add(o *Texts) {
	t.Other += o.Other
	for i := range o.list[:o.n] {
		e := &o.list[i]
		t.add(e.class, string(e.bytes[:e.len]), e.count)
	}
}

// All returns the texts that came at least so many times, the most frequent first, and how many
// answers had another.
func (t *Texts) All(least uint64) (all []Text, other uint64) {
	other = t.Other
	for i := range t.list[:t.n] {
		if e := &t.list[i]; e.count >= least {
			all = append(all, Text{e.class, string(e.bytes[:e.len]), e.count})
		} else {
			other += e.count
		}
	}
	slices.SortFunc(all, func(a, b Text) int {
		return cmp.Or(-cmp.Compare(a.Count, b.Count), cmp.Compare(a.Class, b.Class),
			cmp.Compare(a.Text, b.Text))
	})
	return all, other
}
