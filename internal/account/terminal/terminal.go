// Package terminal shows a fleet in a terminal, until the user quits. It leaves the terminal as it
// was.
//
// Frame draws: the same Screen gives the same text. Run joins it with the terminal.
package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	tea "charm.land/bubbletea/v2"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/fleet"
)

// Config says what to show, and where.
type Config struct {
	In       io.Reader // a terminal
	Out      io.Writer // a terminal
	Fleet    *fleet.Fleet
	Keys     string          // what the keys do, for the last line
	Messages func() []string // the lines of the log so far; nil: there are none
	// Quit is called when the user presses q or Ctrl-C. If it is nil, or returns true, the view
	// ends.
	Quit func() bool
}

// redraw is how often the view is drawn.
const redraw = 250 * time.Millisecond

// Run shows the fleet until the user quits or ctx is done.
func Run(ctx context.Context, c *Config) error {
	p := tea.NewProgram(
		&model{ctx: ctx, c: c, width: 80, height: 24},
		tea.WithContext(ctx),
		tea.WithInput(c.In),
		tea.WithOutput(c.Out),
		tea.WithoutSignalHandler(),
		tea.WithFPS(20),
	)
	if _, err := p.Run(); err != nil && !errors.Is(err, tea.ErrProgramKilled) && ctx.Err() == nil {
		return fmt.Errorf("terminal: %w", err)
	}
	return nil
}

// lookEvery is how often the sessions are asked for while they are shown.
const lookEvery = time.Second

// maxFilter bounds the filter that can be typed, in bytes.
const maxFilter = 200

// model is the view as bubbletea wants it.
type model struct {
	ctx           context.Context
	c             *Config
	width, height int

	list    SessionList
	listed  bool                // the list is shown
	asking  bool                // a looked will come
	round   int                 // how often was asked
	applied export.SessionQuery // that was asked for last
}

type (
	tick   time.Time
	look   int // after so many rounds; without effect if there was another since
	looked struct {
		query export.SessionQuery
		found *export.Sessions
	}
)

func next() tea.Cmd {
	return tea.Tick(redraw, func(t time.Time) tea.Msg { return tick(t) })
}

// Init begins the ticks.
func (m *model) Init() tea.Cmd { return next() }

// Update takes a key, a new size, a tick or sessions.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		return m, m.press(msg)
	case tick:
		return m, next()
	case look:
		if int(msg) == m.round {
			return m, m.look()
		}
	case looked:
		m.asking = false
		if msg.query != m.applied {
			return m, m.look()
		}
		m.list.Found, m.list.Asked = msg.found, true
		round := look(m.round)
		return m, tea.Tick(lookEvery, func(time.Time) tea.Msg { return round })
	}
	return m, nil
}

// press takes a key.
func (m *model) press(key tea.KeyPressMsg) tea.Cmd {
	name := key.String()
	switch {
	case name == "ctrl+c":
		return m.quit()
	case m.list.Typing:
		return m.typed(name, key.Text)
	}
	switch name {
	case "q", "Q":
		return m.quit()
	case "s", "S":
		if m.listed = !m.listed; m.listed {
			return m.look()
		}
	case "esc":
		m.listed = false
	case "o", "O":
		if m.listed {
			orders := export.Orders()
			i := max(0, slices.Index(orders, m.list.Query.Order))
			m.list.Query.Order = orders[(i+1)%len(orders)]
			return m.look()
		}
	case "/":
		m.list.Typing = m.listed
	}
	return nil
}

// typed takes a key while the filter is typed.
func (m *model) typed(name, text string) tea.Cmd {
	filter := &m.list.Query.Filter
	switch name {
	case "enter":
		m.list.Typing = false
	case "esc":
		m.list.Typing, *filter = false, ""
	case "backspace":
		r := []rune(*filter)
		*filter = string(r[:max(0, len(r)-1)])
	default:
		if len(*filter)+len(text) <= maxFilter {
			*filter += text
		}
	}
	return m.look()
}

func (m *model) quit() tea.Cmd {
	if m.c.Quit == nil || m.c.Quit() {
		return tea.Quit
	}
	return nil
}

// look asks for the sessions, unless that is being done or they are not shown.
func (m *model) look() tea.Cmd {
	m.list.Wrong = ""
	if _, err := m.list.Query.Parse(); err != nil {
		if !m.list.Typing { // half a word is no mistake
			m.list.Wrong = err.Error()
		}
	} else {
		m.applied = m.list.Query
	}
	if !m.listed || m.asking {
		return nil
	}
	m.asking = true
	m.round++
	q, fleet := m.applied, m.c.Fleet
	return func() tea.Msg { return looked{q, fleet.Sessions(m.ctx, q)} }
}

// keys says what the keys do.
func (m *model) keys() string {
	switch {
	case !m.listed:
		return m.c.Keys + "  s sessions"
	case m.list.Typing:
		return "an address, a network, :port, a state or what is waited for; Enter: done"
	}
	return m.c.Keys + "  s overview  o order  / filter"
}

// View draws the screen.
func (m *model) View() tea.View {
	s := &Screen{
		State: m.c.Fleet.State(), Now: time.Now(), Keys: m.keys(), Width: m.width,
		Height: m.height,
	}
	if m.listed {
		s.Sessions = &m.list
	}
	if m.c.Messages != nil {
		s.Messages = m.c.Messages()
	}
	v := tea.NewView(Frame(s))
	v.AltScreen = true
	return v
}
