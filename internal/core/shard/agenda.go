package shard

import (
	"cmp"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
)

// agenda is sessions in the order of a time, and those of the same time in the order in which they
// began. It is a binary heap.
type agenda struct{ items []agendaItem }

// agendaKept is for how many sessions an agenda that has become empty keeps its memory.
const agendaKept = 256

type agendaItem struct {
	at mono.Time
	id session.ID // of e when it was put there: entries are reused
	e  *entry
}

// current reports whether the item's session still has its entry.
func (i *agendaItem) current() bool { return i.e.counted && i.e.ID() == i.id }

func (i *agendaItem) compare(o *agendaItem) int {
	return cmp.Or(cmp.Compare(i.at, o.at), cmp.Compare(i.id, o.id))
}

// push adds a session.
func (a *agenda) push(at mono.Time, e *entry) {
	a.items = append(a.items, agendaItem{at, e.ID(), e})
	list := a.items
	for i := len(list) - 1; i > 0; {
		up := (i - 1) / 2
		if list[up].compare(&list[i]) <= 0 {
			return
		}
		list[up], list[i] = list[i], list[up]
		i = up
	}
}

// first returns the first item; nil if there is none. It is valid until the agenda changes.
func (a *agenda) first() *agendaItem {
	if len(a.items) == 0 {
		return nil
	}
	return &a.items[0]
}

// pop removes the first item.
func (a *agenda) pop() {
	last := len(a.items) - 1
	if last == 0 && cap(a.items) > agendaKept {
		a.items = nil
		return
	}
	a.items[0] = a.items[last]
	a.items[last] = agendaItem{}
	a.items = a.items[:last]
	list := a.items
	for i := 0; ; {
		least := 2*i + 1
		if least >= len(list) {
			return
		}
		if r := least + 1; r < len(list) && list[r].compare(&list[least]) < 0 {
			least = r
		}
		if list[i].compare(&list[least]) <= 0 {
			return
		}
		list[i], list[least] = list[least], list[i]
		i = least
	}
}
