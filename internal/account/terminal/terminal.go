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
	"time"

	tea "charm.land/bubbletea/v2"

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
		&model{c: c, width: 80, height: 24},
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

// model is the view as bubbletea wants it.
type model struct {
	c             *Config
	width, height int
}

type tick time.Time

func next() tea.Cmd {
	return tea.Tick(redraw, func(t time.Time) tea.Msg { return tick(t) })
}

// Init begins the ticks.
func (m *model) Init() tea.Cmd { return next() }

// Update takes a key, a new size or a tick.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		switch msg.String() {
		case "q", "Q", "ctrl+c":
			if m.c.Quit == nil || m.c.Quit() {
				return m, tea.Quit
			}
		}
	case tick:
		return m, next()
	}
	return m, nil
}

// View draws the screen.
func (m *model) View() tea.View {
	s := &Screen{
		State: m.c.Fleet.State(), Now: time.Now(), Keys: m.c.Keys, Width: m.width, Height: m.height,
	}
	if m.c.Messages != nil {
		s.Messages = m.c.Messages()
	}
	v := tea.NewView(Frame(s))
	v.AltScreen = true
	return v
}
