package ledger

import (
	"fmt"
	"slices"
)

// term is one word of the account: a reason, or a class.
type term struct {
	name      string
	meaning   string // for people; may be empty
	onRequest bool   // of a reason: what is dropped for it is no loss
}

// terms are words of one kind. An index stands for a word in counters; 0 stands for none.
// The table is complete once all packages are initialised, and is only read after that.
type terms struct {
	most int
	list []term
}

func (t *terms) index(name string) int {
	return slices.IndexFunc(t.list, func(w term) bool { return w.name == name })
}

func (t *terms) define(w term) int {
	switch {
	case w.name == "" || t.index(w.name) >= 0:
		panic(fmt.Sprintf("ledger: the name %q is empty or taken", w.name))
	case len(t.list) == t.most:
		panic(fmt.Sprintf("ledger: no room for %q: there are %d already", w.name, t.most))
	}
	t.list = append(t.list, w)
	return len(t.list) - 1
}

// Scope returns a function that removes the reasons and classes defined after the call to Scope.
// It is for tests that define some: no counter that holds them may be used after that.
func Scope() (end func()) {
	nr, nc := len(reasons.list), len(classes.list)
	return func() { reasons.list, classes.list = reasons.list[:nr], classes.list[:nc] }
}
