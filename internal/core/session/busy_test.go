package session

import "testing"

// TestBehind checks that a copy is behind while a turn that was sent a while ago waits for the
// answer to the previous one.
func TestBehind(t *testing.T) {
	r := fresh(t)
	behind := func(when string, want bool) {
		t.Helper()
		if got := r.s.Behind(r.now); got != want {
			t.Errorf("%s: behind is %v", when, got)
		}
	}
	behind("at first", false)
	r.data("GET 1")
	r.takes()
	r.answers(100)
	r.wait(sec)
	behind("before the client has sent more", false)
	r.data("GET 2")
	r.wait(10 * ms)
	behind("soon after the next turn", false)
	r.wait(1 * ms)
	behind("later", true)
	r.replies(100)
	r.wait(400 * ms)
	r.copied("GET 1GET 2")
	behind("after the answer", false)
	r.takes()
	r.answers(100)
	r.data("GET 3")
	r.wait(20 * ms)
	behind("with another turn", true)
	r.targetResets(5)
	behind("after the copy's end", false)
}
