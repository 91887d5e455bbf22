package terminal

import (
	"context"
	"fmt"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"tcpcopy/internal/account/export"
)

// found is what a copier with many sessions answers.
func found(n int) *export.Sessions {
	s := &export.Sessions{Live: 60_000, Looked: 50_000, Matched: 12_345, Missing: 1}
	for i := range n {
		one := export.Session{
			Client: fmt.Sprintf("192.0.2.%d:%d", i%250, 40000+i), Target: "10.0.0.2:8080",
			Phase: "flowing/adopted", WaitsFor: "answer", Waited: 12.5 / float64(i+1),
			Lag: 1 / float64(i+1), Held: 65536,
		}
		if i%3 == 2 {
			one.Phase, one.WaitsFor, one.NoCopy, one.Lag = "watching/lost", "client",
				"target_reset", 0
		}
		s.First = append(s.First, one)
	}
	s.First[1].Node = "web1:17"
	return s
}

func TestFramesOfSessions(t *testing.T) {
	for _, tt := range []struct {
		name          string
		width, height int
		list          SessionList
	}{
		{"sessions-80x24", 80, 24, SessionList{Found: found(100), Asked: true}},
		{"sessions-200x50", 200, 50, SessionList{Found: found(20), Asked: true,
			Query: export.SessionQuery{Order: "held", Filter: "192.0.2.0/24"}, Typing: true}},
		{"sessions-wrong-80x24", 80, 24, SessionList{Wrong: `got "web1" in the filter`}},
		{"sessions-none-80x24", 80, 24, SessionList{Asked: true}},
		{"sessions-tiny", 10, 3, SessionList{Found: found(20), Asked: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := screen(full(), tt.width, tt.height)
			s.Sessions = &tt.list
			s.Messages = []string{"a line of the log"}
			lines := strings.Split(Frame(s), "\n")
			if len(lines) != max(tt.height, 4) {
				t.Errorf("%d lines on a screen of %d", len(lines), tt.height)
			}
			for i, l := range lines {
				if w := lipgloss.Width(l); w > max(tt.width, 20) {
					t.Errorf("line %d is %d wide", i+1, w)
				}
				lines[i] = strings.TrimRight(ansi.Strip(l), " ")
			}
			golden(t, tt.name, strings.Join(lines, "\n")+"\n")
		})
	}
}

// The keys lead to the sessions and back, and say which are asked for.
func TestKeysOfSessions(t *testing.T) {
	f := full()
	var asked []export.SessionQuery
	f.Ask = func(_ context.Context, _ string, q export.SessionQuery) (*export.Sessions, error) {
		asked = append(asked, q)
		return found(3), nil
	}
	m := &model{ctx: t.Context(), c: &Config{Fleet: f, Keys: "q quit"}, width: 80, height: 24}
	// press presses a key, and carries out what follows at once.
	press := func(k tea.Key) {
		t.Helper()
		if _, cmd := m.Update(tea.KeyPressMsg(k)); cmd != nil {
			if msg, ok := cmd().(looked); ok {
				m.Update(msg)
			}
		}
	}
	text := func(s string) {
		for _, r := range s {
			press(tea.Key{Code: r, Text: string(r)})
		}
	}
	shows := func(want string) {
		t.Helper()
		if got := ansi.Strip(m.View().Content); !strings.Contains(got, want) {
			t.Fatalf("%q is not in\n%s", want, got)
		}
	}
	shows("s sessions")
	text("s")
	shows("sessions by wait")
	shows("12,345 match")
	text("o")
	shows("sessions by lag")
	text("/web1")
	shows("filter: web1")
	press(tea.Key{Code: tea.KeyEnter})
	shows(`got "web1" in the filter`)
	text("/")
	for range 4 {
		press(tea.Key{Code: tea.KeyBackspace})
	}
	text("q:80") // q is a letter here
	press(tea.Key{Code: tea.KeyEscape})
	text("/:80")
	press(tea.Key{Code: tea.KeyEnter})
	shows("filter: :80")
	want := export.SessionQuery{Order: "lag", Filter: ":80"}
	if last := asked[len(asked)-1]; last != want {
		t.Errorf("asked for %+v, want %+v", last, want)
	}
	if text("s"); m.listed {
		t.Error("the list is still shown")
	}
	n := len(asked)
	m.Update(look(m.round))
	if len(asked) != n {
		t.Error("sessions are asked for that are not shown")
	}
	if _, cmd := m.Update(tea.KeyPressMsg{Code: 'q', Text: "q"}); cmd == nil {
		t.Error("q does not quit")
	}
}

// However many keys are pressed, the sessions are asked for again by one tick.
func TestOneTickForSessions(t *testing.T) {
	f := full()
	asked := 0
	f.Ask = func(context.Context, string, export.SessionQuery) (*export.Sessions, error) {
		asked++
		return found(3), nil
	}
	m := &model{ctx: t.Context(), c: &Config{Fleet: f}}
	m.listed = true
	var ticks []look
	ask := func(cmd tea.Cmd) {
		m.Update(cmd())
		ticks = append(ticks, look(m.round))
	}
	ask(m.look())
	for range 5 {
		_, cmd := m.Update(tea.KeyPressMsg{Code: 'o', Text: "o"})
		ask(cmd)
	}
	before := asked
	for _, k := range ticks {
		if _, cmd := m.Update(k); cmd != nil {
			cmd()
		}
	}
	if asked != before+1 {
		t.Errorf("asked %d times after as many ticks as %d, want once", asked-before, len(ticks))
	}
}
