package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"

	"tcpcopy/internal/lab/netlab"
	"tcpcopy/internal/sys"
)

// The clients are a process of their own, for it is they who need the descriptors and the time that
// the servers need too: this program again, as "tcpcopy lab" with clientsPart in its environment.
// It reads its task on stdin, goes on until that is closed or the load is over, and writes what it
// did on stdout.
const clientsPart = "TCPCOPY_LAB_CLIENTS"

// clientsTask is what the clients are to do.
type clientsTask struct {
	Scenario   Scenario
	Proto      string // as in Options
	Rate       float64
	IPv6       bool
	Production netip.AddrPort
	Addrs      int // of the clients; 0: clientAddrs
}

// clientsDone is what the clients did.
type clientsDone struct {
	Sent, Answered, Failed int64
	Error                  string // the first failure
}

// beClients is the clients' process. It returns the exit code.
func beClients(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var task clientsTask
	tasks := json.NewDecoder(stdin)
	if err := tasks.Decode(&task); err != nil {
		fmt.Fprintf(stderr, "tcpcopy: lab clients: read task: %v\n", err)
		return 1
	}
	if err := roomFor(task.Scenario.Conns); err != nil {
		fmt.Fprintf(stderr, "tcpcopy: %v\n", err)
		return 1
	}
	addrs := clientAddrs
	if task.Addrs > 0 {
		addrs = min(task.Addrs, clientAddrs)
	}
	go func() { // ends with the process at the latest
		tasks.Decode(new(json.RawMessage))
		cancel()
	}()
	l := load{scenario: task.Scenario, framing: framings[task.Proto], rate: task.Rate,
		dial: func(ctx context.Context, i int) (*net.TCPConn, error) {
			d := net.Dialer{
				LocalAddr: &net.TCPAddr{IP: netlab.ClientAddr(i%addrs, task.IPv6).AsSlice()},
				Timeout:   answerTimeout,
			}
			c, err := d.DialContext(ctx, "tcp", task.Production.String())
			if err != nil {
				return nil, err
			}
			return c.(*net.TCPConn), nil
		}}
	l.run(ctx)
	done := clientsDone{Sent: l.sent.Load(), Answered: l.answered.Load(), Failed: l.failed.Load()}
	if l.first != nil {
		done.Error = l.first.Error()
	}
	if err := json.NewEncoder(stdout).Encode(done); err != nil {
		fmt.Fprintf(stderr, "tcpcopy: lab clients: %v\n", err)
		return 1
	}
	return 0
}

// clientAddrs is over how many addresses the clients are spread: as many as netlab gives.
const clientAddrs = 4

// roomFor makes room for n descriptors and some.
func roomFor(n int) error {
	want := uint64(n + 1000)
	if got, err := sys.RaiseFileLimit(want); err != nil || got < want {
		return fmt.Errorf("lab: %d connections need %d open files, and the limit is %d: raise "+
			"it with ulimit -n", n, want, got)
	}
	return nil
}

// clients is the clients' process, seen from the lab.
type clients struct {
	ended chan struct{}
	stdin io.Closer

	done clientsDone // once ended
	err  error
}

// startClients starts the load. It ends by itself, or soon after stop.
func (r *run) startClients() (*clients, error) {
	task, err := json.Marshal(clientsTask{Scenario: r.scenario, Proto: r.options.Proto,
		Rate: r.options.Rate, IPv6: r.options.IPv6, Production: r.productionAddr,
		Addrs: r.options.ClientAddrs})
	if err != nil {
		return nil, fmt.Errorf("start clients: %w", err)
	}
	cmd := r.net.Client.Command(context.Background(), r.binary, "lab")
	cmd.Env = append(os.Environ(), clientsPart+"=1")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start clients: %w", err)
	}
	c := &clients{ended: make(chan struct{}), stdin: stdin}
	go func() {
		defer close(c.ended)
		_, failed := stdin.Write(task)
		if err := cmd.Wait(); err != nil {
			failed = fmt.Errorf("%w %s", err, strings.TrimSpace(errs.String()))
		}
		if failed == nil {
			failed = json.Unmarshal(out.Bytes(), &c.done)
		}
		if failed != nil {
			c.err = fmt.Errorf("run clients: %w", failed)
		}
	}()
	return c, nil
}

// stop makes the clients give up, and waits for it.
func (c *clients) stop() {
	c.stdin.Close() // fails only where they have ended
	<-c.ended
}

// failure is the first thing that went wrong for the clients, or nil.
func (d *clientsDone) failure() error {
	if d.Error == "" {
		return nil
	}
	return errors.New(d.Error)
}
