package app

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/metrics"
	"tcpcopy/internal/account/status"
)

// askWait is how long to wait for the state of a busy copier.
const askWait = time.Second

// copierView returns the state of a copier. The copier's run receives the request from asks.
// copierView returns nil if the run does not answer in time.
func copierView(asks chan<- chan<- *export.Snapshot, follow *course) *view {
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
	follow.stamp(s)
	return &view{node: copierNode(s), metrics: &metrics.Copier{
		Snapshot: s, ReloadFailed: follow.seen.reloadFailed.Load(),
	}}
}

// copierNode returns the state of a copier, of a snapshot, without its account.
func copierNode(s *export.Snapshot) status.Node {
	n := status.Node{
		Start: s.Start, Via: s.Via, Mappings: s.Mappings, Sequence: s.Sequence,
		Sessions: s.Counters.Sessions.Captured, Live: s.Counters.Live,
		Peers: len(s.Links),
	}
	if m, ok := export.Delivered(&s.Counters.Sessions); ok {
		p := float64(m) / 1000
		n.DeliveredPercent = &p
	}
	for _, l := range s.Links {
		if l.Up {
			n.Up++
		}
	}
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
	client := clientOptions(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print all that the nodes report, as JSON")
	cmd.RunE = func(_ *cobra.Command, addrs []string) error {
		addrs, c, err := nodesToAsk("status", addrs, client)
		if err != nil {
			return err
		}
		return p.ask(c, addrs, *asJSON)
	}
	return cmd
}

// ask asks all nodes at once and prints their answers. A node that does not answer makes the exit
// code 1.
func (p *program) ask(c *status.Client, addrs []string, asJSON bool) error {
	rows := make([]status.Row, len(addrs))
	done := make(chan struct{})
	for i, a := range addrs {
		go func() {
			n, err := c.Ask(context.Background(), a)
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
