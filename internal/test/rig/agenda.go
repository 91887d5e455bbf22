package rig

import (
	"container/heap"
	"tcpcopy/internal/core/mono"
)

// Agenda is what is to happen, in the order of time. Only Plan, Next and Run are for tests.
type Agenda struct {
	list []planned
	n    int
}

type planned struct {
	at mono.Time
	n  int
	do func(mono.Time)
}

// Len implements heap.Interface.
func (a *Agenda) Len() int { return len(a.list) }

// Less implements heap.Interface.
func (a *Agenda) Less(i, j int) bool {
	return a.list[i].at < a.list[j].at || a.list[i].at == a.list[j].at && a.list[i].n < a.list[j].n
}

// Swap implements heap.Interface.
func (a *Agenda) Swap(i, j int) { a.list[i], a.list[j] = a.list[j], a.list[i] }

// Push implements heap.Interface.
func (a *Agenda) Push(x any) { a.list = append(a.list, x.(planned)) }

// Pop implements heap.Interface.
func (a *Agenda) Pop() any {
	x := a.list[len(a.list)-1]
	a.list = a.list[:len(a.list)-1]
	return x
}

// Plan has do called at a time.
func (a *Agenda) Plan(at mono.Time, do func(mono.Time)) {
	a.n++
	heap.Push(a, planned{at, a.n, do})
}

// Next returns when something is planned next.
func (a *Agenda) Next() mono.Time {
	if len(a.list) == 0 {
		return mono.Never
	}
	return a.list[0].at
}

// Run does what is due at now.
func (a *Agenda) Run(now mono.Time) {
	for a.Next() <= now {
		heap.Pop(a).(planned).do(now)
	}
}
