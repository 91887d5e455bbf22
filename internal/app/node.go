package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/metrics"
	"tcpcopy/internal/account/status"
	"tcpcopy/internal/config"
)

// askWait is how long who asks waits for a copier that is busy.
const askWait = time.Second

// copierView returns the state of a copier, whose run sends a snapshot on each channel that it gets.
func copierView(asks chan<- chan<- *export.Snapshot, follow *course) *view {
	// Room for one: a copier that answers late waits for nobody.
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
	r := export.NewReport(s)
	n := status.Node{
		Start: s.Start, Via: s.Via, Mappings: s.Mappings, Sequence: s.Sequence,
		Sessions: s.Counters.Sessions.Captured, Live: s.Counters.Live,
		DeliveredPercent: r.Sessions.DeliveredPercent, Peers: len(s.Links),
	}
	for _, l := range s.Links {
		if l.Up {
			n.Up++
		}
	}
	n.Account, _ = json.Marshal(r)
	return &view{node: n, metrics: &metrics.Copier{Snapshot: s, ReloadFailed: follow.seen.reloadFailed.Load()}}
}

func (p *program) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:         "status [ADDR…]",
		Aliases:     []string{"nodes"},
		Annotations: map[string]string{"usage": "tcpcopy status [ADDR…]\ntcpcopy nodes [ADDR…]"},
		Short:       "ask copiers and intercepts how they are",
		Long:        "ADDR is what --status was given there: a path, or IP:PORT. Without one, all nodes of this host are asked.",
		Example: `tcpcopy status
tcpcopy status 127.0.0.1:36525 /run/copy.sock
tcpcopy status --json`,
	}
	asJSON := cmd.Flags().Bool("json", false, "print everything that they say, as JSON")
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
			return &mended{errors.New("status: no copier or intercept runs on this host, or none answers in " + status.Dir), "name those that were started with --status"}
		}
		return p.ask(addrs, *asJSON)
	}
	return cmd
}

// ask asks nodes, all at once, and prints what they say; one that does not answer is a failure.
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
			err = coded(exitFailure)
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
