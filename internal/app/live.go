package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/fleet"
	"tcpcopy/internal/account/status"
	"tcpcopy/internal/account/terminal"
	"tcpcopy/internal/config"
)

// liveView is the view of --live, while a command works.
type liveView struct {
	fleet  *fleet.Fleet
	begin  chan struct{} // closed at the first state: until then the terminal is left alone
	once   sync.Once
	cancel context.CancelFunc
	done   chan struct{}
}

// canShow reports whether standard output is a terminal that --live can have. If it is not, it says
// so.
func (p *program) canShow() bool {
	if isTerminal(p.terminal()) {
		return true
	}
	say(p.err, "warning: --live: standard output is not a terminal: lines of statistics instead")
	return false
}

// showLive begins a view of a fleet. What is written to kept meanwhile is at its foot.
func (p *program) showLive(f *fleet.Fleet, kept *lines) *liveView {
	ctx, cancel := context.WithCancel(context.Background())
	v := &liveView{fleet: f, begin: make(chan struct{}), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(v.done)
		select {
		case <-v.begin:
		case <-ctx.Done():
			return
		}
		err := terminal.Run(ctx, &terminal.Config{
			In: os.Stdin, Out: p.terminal(), Keys: "q or Ctrl-C stops; once more: at once",
			Fleet:    f,
			Messages: kept.last,
			Quit: func() bool {
				// As if it were typed without a view: the command knows what to do.
				_ = syscall.Kill(os.Getpid(), syscall.SIGINT)
				return false
			},
		})
		if err != nil {
			fmt.Fprintf(kept, "tcpcopy: %v\n", err)
		}
	}()
	return v
}

// add shows a new state of a node.
func (v *liveView) add(addr string, n *status.Node, err error) {
	if v == nil {
		return
	}
	v.fleet.Add(addr, n, err, time.Now())
	v.shown(err == nil)
}

// shown begins the view if there is a state to show.
func (v *liveView) shown(ok bool) {
	if v != nil && ok {
		v.once.Do(func() { close(v.begin) })
	}
}

// ownNode returns the state of the copier that this process is.
func ownNode(s *export.Snapshot, r *export.Report) status.Node {
	n := copierNode(s)
	n.Account, _ = json.Marshal(r)
	n.Kind, n.Version, n.PID, n.Now = "copier", s.Version, os.Getpid(), s.Now
	n.Host, _ = os.Hostname()
	return n
}

// end gives the terminal back as it was.
func (v *liveView) end() {
	if v != nil {
		v.cancel()
		<-v.done
	}
}

// withLive runs work, which shows a view where live is set: what is written to standard error
// meanwhile is kept, and printed when work has ended.
func (p *program) withLive(live bool, work func(kept *lines) error) error {
	if !live {
		return work(nil)
	}
	kept, err := new(lines), p.err
	p.err = kept
	defer func() {
		p.err = err
		kept.print(err)
	}()
	return work(kept)
}

// runShownLab runs a lab and shows its copier, in the terminal and on a page. run gets further
// options of the copier.
func (p *program) runShownLab(
	c *config.Lab, run func(extra []string, out, progress io.Writer) int,
) (code int) {
	dir, err := os.MkdirTemp("", "tcpcopy-lab-")
	if err != nil {
		return fail(p.err, err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "copy.sock")
	nodes := fleet.New([]string{socket})
	nodes.Ask = new(status.Client).Sessions
	if c.Web.Dashboard != "" {
		s, err := p.serveDashboard(&c.Web, nodes)
		if err != nil {
			return fail(p.err, err)
		}
		defer s.Close()
	}
	var out bytes.Buffer
	_ = p.withLive(c.Live, func(kept *lines) error {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var view *liveView
		progress := p.err
		if c.Live {
			view = p.showLive(nodes, kept)
		}
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			new(status.Client).Watch(ctx, socket, func(n *status.Node, err error) {
				nodes.Add(socket, n, err, time.Now())
				view.shown(err == nil)
			})
		}()
		code = run([]string{"--status", socket}, &out, progress)
		cancel()
		<-watched
		view.end()
		return nil
	})
	_, _ = p.out.Write(out.Bytes())
	return code
}

// lines keeps what is written to it while a view has the terminal, in bounded memory.
type lines struct {
	mu   sync.Mutex // guards all
	all  []string
	rest string // of a line that has not ended
}

// maxLines bounds the lines that are kept: the newest of them.
const maxLines = 1000

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest += string(b)
	for {
		line, rest, ok := strings.Cut(l.rest, "\n")
		if !ok {
			return len(b), nil
		}
		l.rest = rest
		if l.all = append(l.all, line); len(l.all) > maxLines {
			l.all = l.all[len(l.all)-maxLines:]
		}
	}
}

// last returns the newest lines.
func (l *lines) last() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.all[max(0, len(l.all)-8):]...)
}

// print writes all lines to w.
func (l *lines) print(w io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		fmt.Fprintln(w, line)
	}
}
