package ledger

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestTexts(t *testing.T) {
	var a, b Texts
	for range 3 {
		a.Note(1, "none")
		b.Note(1, "none")
	}
	b.Note(2, "none")
	b.Note(1, strings.Repeat("x", MaxText)+"1")
	b.Note(1, strings.Repeat("x", MaxText)+"2")
	c := a
	c.Add(&b)
	all, other := c.All(2)
	if want := []Text{{1, "none", 6}, {1, strings.Repeat("x", MaxText), 2}}; other != 1 ||
		!slices.Equal(all, want) {
		t.Errorf("%+v, %d others, wanted %+v", all, other, want)
	}
	if all, other := a.All(1); len(all) != 1 || all[0].Count != 3 || other != 0 {
		t.Errorf("%+v, %d others: it has changed with its copy", all, other)
	}
}

// TestTextsAreBounded checks that texts that all differ take no room from a frequent one, however
// late it comes, and that all are counted.
func TestTextsAreBounded(t *testing.T) {
	var c Texts
	const some = 100
	for i := range 10 * maxTexts {
		c.Note(1, fmt.Sprint(i))
	}
	for i := range some {
		c.Note(1, "frequent")
		c.Note(1, fmt.Sprint("x", i))
	}
	all, other := c.All(2)
	if len(all) != 1 || all[0].Text != "frequent" || all[0].Count != some {
		t.Errorf("%+v, wanted the frequent one", all)
	}
	if want := uint64(10*maxTexts + some); other != want {
		t.Errorf("%d others, wanted %d", other, want)
	}
}
