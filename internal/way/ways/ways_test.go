package ways

import (
	"slices"
	"testing"

	"tcpcopy/internal/way"
)

func TestNew(t *testing.T) {
	if got := Names(); !slices.Equal(got, []string{"socket", "raw", "tunnel"}) {
		t.Errorf("the ways are %q", got)
	}
	for _, name := range Names() {
		w, err := New(&way.Settings{Via: name})
		if err != nil || w.Name() != name {
			t.Errorf("%s: %v, %v", name, w, err)
		}
	}
	if _, err := New(&way.Settings{Via: "pigeon"}); err == nil {
		t.Error("there is a way of that name")
	}
	if w, err := New(&way.Settings{Via: "raw", LearnWay: true}); err != nil || w.Name() != "raw" {
		t.Errorf("before an intercept is asked: %v, %v", w, err)
	}
}
