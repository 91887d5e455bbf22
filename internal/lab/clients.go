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

// clientsPart is the environment variable that makes "tcpcopy lab" the process of the clients. They
// run in a separate process because they need as many descriptors as the servers. The process reads
// a clientsTask from stdin, runs until stdin is closed or the load has ended, and writes a
// clientsDone to stdout.
const clientsPart = "TCPCOPY_LAB_CLIENTS"

// clientsTask is the task of the clients' process.
type clientsTask struct {
	Scenario   Scenario
	Proto      string // as in Options
	Rate       float64
	IPv6       bool
	Production netip.AddrPort
	Addrs      int // of the clients; 0: clientAddrs
}

// clientsDone is the result of the clients' process.
type clientsDone struct {
	Sent, Answered, Failed int64
	Error                  string // the first failure
}

// beClients runs the clients' process and returns its exit code.
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

// clientAddrs is the number of addresses that the clients are spread over.
const clientAddrs = 4

// roomFor raises the limit of open files so that n more can be opened.
func roomFor(n int) error {
	want := uint64(n + 1000)
	if got, err := sys.RaiseFileLimit(want); err != nil || got < want {
		return fmt.Errorf("lab: %d connections need %d open files, and the limit is %d: raise "+
			"it with ulimit -n", n, want, got)
	}
	return nil
}

// clients is the lab's handle on the clients' process.
type clients struct {
	ended chan struct{}
	stdin io.Closer

	done clientsDone // once ended
	err  error
}

// startClients starts the load, which ends by itself or soon after stop.
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

// stop ends the clients' process and waits for it.
func (c *clients) stop() {
	c.stdin.Close() // fails only where they have ended
	<-c.ended
}

// failure returns the first error of the clients, or nil.
func (d *clientsDone) failure() error {
	if d.Error == "" {
		return nil
	}
	return errors.New(d.Error)
}
