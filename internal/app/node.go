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

// answer answers tcpcopy status with what get returns, as addr says; the function it returns ends that. At the
// usual place it is no failure if that cannot be.
func answer(kind, addr string, get func() *status.Node) (end func(), err error) {
	usual := addr == ""
	switch {
	case addr == config.StatusOff:
		return func() {}, nil
	case usual:
		addr = status.Default(kind)
		if err := status.MakeDir(); err != nil {
			return func() {}, nil
		}
		status.Nodes() // takes away what killed ones have left
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
	case usual:
		return func() {}, nil
	}
	return nil, &config.Problem{Flag: "--status", Value: addr, What: "cannot be answered on: " + errors.Unwrap(err).Error()}
}

// askWait is how long who asks waits for a copier that is busy.
const askWait = time.Second

// copierNode is what a copier says of itself, whose run sends its state to who asks.
func copierNode(asks chan<- chan<- *export.Snapshot) *status.Node {
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
	r := export.NewReport(s)
	n := &status.Node{
		Start: s.Start, Via: s.Via, Mappings: s.Mappings, Sessions: s.Counters.Sessions.Captured, Live: s.Counters.Live,
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
