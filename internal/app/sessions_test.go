package app

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/core/shard"
)

// Readers who ask the same at the same time cost one look, and a run that does not answer holds
// nobody up for ever.
func TestLookerSharesWhatItFinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLooker()
		looks := map[shard.Order]int{}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for a := range l.asks {
				looks[a.Query.Order]++
				time.Sleep(500 * time.Millisecond)
				a.To <- &export.Sessions{Live: looks[a.Query.Order]}
			}
		}()
		ask := func(order string) *export.Sessions {
			return l.sessions(t.Context(), export.SessionQuery{Order: order})
		}
		got := make(chan *export.Sessions, 20)
		for range cap(got) {
			go func() { got <- ask("lag") }()
		}
		for range cap(got) {
			if s := <-got; s == nil || s.Live != 1 {
				t.Errorf("%+v", s)
			}
		}
		if s := ask("held"); s == nil || s.Live != 1 {
			t.Errorf("another question: %+v", s)
		}
		time.Sleep(lookFresh)
		if s := ask("held"); s == nil || s.Live != 2 {
			t.Errorf("later: %+v", s)
		}
		if ask("age") != nil {
			t.Error("an answer to a question that is wrong")
		}
		close(l.asks)
		<-done
		if looks[shard.ByLag] != 1 || looks[shard.ByHeld] != 2 {
			t.Errorf("%v", looks)
		}
	})
}

func TestLookerWithoutARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, began := newLooker(), time.Now()
		if l.sessions(t.Context(), export.SessionQuery{}) != nil {
			t.Error("sessions of no run")
		}
		if d := time.Since(began); d != lookWait {
			t.Errorf("after %v", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := l.ask(ctx, "", export.SessionQuery{}); err == nil {
			t.Error("no error")
		}
	})
}
