package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/status"
	"tcpcopy/internal/config"
)

// serveStatus answers tcpcopy status on addr with what get returns, until the returned function is
// called. On the default socket a failure is ignored.
func serveStatus(kind, addr string, get func() *status.Node) (end func(), err error) {
	isDefault := addr == ""
	switch {
	case addr == config.StatusOff:
		return func() {}, nil
	case isDefault:
		addr = status.Default(kind)
		if err := status.MakeDir(); err != nil {
			return func() {}, nil
		}
		status.Nodes() // removes sockets of killed processes
	}
	s, err := status.Listen(addr, func() *status.Node {
		n := get()
		if n != nil {
			n.Kind, n.Version, n.PID, n.Now = kind, Version(), os.Getpid(), time.Now()
			n.Host, _ = os.Hostname()
		}
		return n
	})
	switch {
	case err == nil:
		return s.Close, nil
	case isDefault:
		return func() {}, nil
	}
	return nil, &config.Problem{
		Flag: "--status", Value: addr, What: "cannot listen: " + errors.Unwrap(err).Error(),
	}
}

// askWait is how long to wait for the state of a busy copier.
const askWait = time.Second

// copierNode returns a copier's answer to tcpcopy status. The copier's run receives the request
// from asks. copierNode returns nil if the run does not answer in time.
func copierNode(asks chan<- chan<- *export.Snapshot) *status.Node {
	// The buffer keeps a run that answers late from blocking.
	state := make(chan *export.Snapshot, 1)
	over := time.After(askWait)
	select {
	case asks <- state:
	case <-over:
		return nil
	}
	var s *export.Snapshot
	select {
	case s = <-state:
	case <-over:
		return nil
	}
	r := export.NewReport(s)
	n := &status.Node{
		Start: s.Start, Via: s.Via, Mappings: s.Mappings,
		Sessions: s.Counters.Sessions.Captured, Live: s.Counters.Live,
		DeliveredPercent: r.Sessions.DeliveredPercent, Peers: len(s.Links),
	}
	for _, l := range s.Links {
		if l.Up {
			n.Up++
		}
	}
	n.Account, _ = json.Marshal(r)
	return n
}

func (p *program) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:         "status [ADDR…]",
		Aliases:     []string{"nodes"},
		Annotations: usage("tcpcopy status [ADDR…]", "tcpcopy nodes [ADDR…]"),
		Short:       "show the state of running copiers, intercepts and agents",
		Long: `
ADDR is the value of --status at the node: a path, or IP:PORT. Without ADDR, status shows all nodes
of this host.`,
		Example: `tcpcopy status
tcpcopy status 127.0.0.1:36525 /run/copy.sock
tcpcopy status --json`,
	}
	asJSON := cmd.Flags().Bool("json", false, "print all that the nodes report, as JSON")
	cmd.RunE = func(_ *cobra.Command, addrs []string) error {
		for _, a := range addrs {
			if err := status.Address(a); err != nil {
				return &config.Problem{What: fmt.Sprintf("status: got %q: %v", a, err)}
			}
		}
		if len(addrs) == 0 {
			addrs = status.Nodes()
		}
		if len(addrs) == 0 {
			return &withRemedy{
				errors.New("status: no copier, intercept or agent answers in " + status.Dir),
				"give the ADDR of one that was started with --status ADDR",
			}
		}
		return p.ask(addrs, *asJSON)
	}
	return cmd
}

// ask asks all nodes at once and prints their answers. A node that does not answer makes the exit
// code 1.
func (p *program) ask(addrs []string, asJSON bool) error {
	rows := make([]status.Row, len(addrs))
	done := make(chan struct{})
	for i, a := range addrs {
		go func() {
			n, err := status.Ask(context.Background(), a)
			rows[i] = status.Row{Addr: a, Node: n, Err: err}
			done <- struct{}{}
		}()
	}
	var err error
	for range addrs {
		<-done
	}
	for _, r := range rows {
		if r.Err != nil {
			err = exitCode(exitFailure)
		}
	}
	if !asJSON {
		if e := status.Table(p.out, rows); e != nil {
			return e
		}
		return err
	}
	nodes := []*status.Node{}
	for _, r := range rows {
		if r.Err != nil {
			say(p.err, "%v", r.Err)
			continue
		}
		nodes = append(nodes, r.Node)
	}
	text, e := json.MarshalIndent(nodes, "", "  ")
	if e != nil {
		return e
	}
	fmt.Fprintf(p.out, "%s\n", text)
	return err
}
