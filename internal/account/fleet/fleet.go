// Package fleet looks at several nodes as one: it keeps the last state of each, sums the copiers,
// and follows the sum over time. The live view and the dashboard show a Fleet.
//
// A node that does not answer keeps its last counts, so that totals do not fall; it is shown as
// gone.
package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/history"
	"tcpcopy/internal/account/status"
)

// Node is the last state of a node.
type Node struct {
	Addr   string         // where it answers; how it is known here
	Status *status.Node   // nil: it has never answered
	Report *export.Report // of a copier; nil for others
	Seen   time.Time      // when it answered last
	Err    error          // why it does not answer now; nil: it does
}

// Fleet is some nodes. Its methods may be called from any goroutine.
type Fleet struct {
	// Ask asks the copier at addr for some of its sessions. It is set before the fleet is used. If
	// it is nil, no sessions can be had.
	Ask func(ctx context.Context, addr string, q export.SessionQuery) (*export.Sessions, error)

	mu    sync.Mutex // guards what follows
	nodes []*Node
	total *export.Report
	track history.Track
}

// New returns a fleet of the nodes that answer at addrs.
func New(addrs []string) *Fleet {
	f := &Fleet{}
	for _, a := range addrs {
		f.nodes = append(f.nodes, &Node{Addr: a})
	}
	return f
}

// Add takes what the node at addr has answered, or why it has not, at the given time.
func (f *Fleet) Add(addr string, n *status.Node, err error, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.nodes, func(n *Node) bool { return n.Addr == addr })
	if i < 0 {
		i = len(f.nodes)
		f.nodes = append(f.nodes, &Node{Addr: addr})
	}
	// What was handed out stays as it was.
	node := *f.nodes[i]
	f.nodes[i] = &node
	if node.Err = err; err != nil {
		return
	}
	node.Status, node.Seen = n, now
	if n.Kind != "copier" {
		return
	}
	r := new(export.Report)
	if e := json.Unmarshal(n.Account, r); e != nil {
		node.Err = errors.New("its account cannot be read: is it of another version?")
		return
	}
	node.Report = r
	f.sum(&node)
}

// sum adds the reports of all nodes up.
func (f *Fleet) sum(changed *Node) {
	var all []*export.Report
	for _, n := range f.nodes {
		if n.Report != nil {
			all = append(all, n.Report)
		}
	}
	total, err := export.Merge(all)
	if err != nil {
		changed.Report, changed.Err = nil, err
		return
	}
	f.total = total
	f.track.Add(total)
}

// State is a fleet at one moment. What it points to is not changed any more.
type State struct {
	Nodes  []*Node
	Total  *export.Report // nil: no copier has answered yet
	Points []history.Point
}

// State returns the state of the fleet.
func (f *Fleet) State() *State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &State{
		Nodes:  slices.Clone(f.nodes),
		Total:  f.total,
		Points: slices.Clone(f.track.Points()),
	}
}

// Sessions returns some of the sessions of all copiers together; nil if none answers.
func (f *Fleet) Sessions(ctx context.Context, q export.SessionQuery) *export.Sessions {
	parsed, err := q.Parse()
	if f.Ask == nil || err != nil {
		return nil
	}
	var copiers []*Node
	all := f.State().Nodes
	for _, n := range all {
		if n.Report != nil || n.Addr == "" { // this process, which may not have reported yet
			copiers = append(copiers, n)
		}
	}
	found := make([]*export.Sessions, len(copiers))
	var asked sync.WaitGroup
	for i, n := range copiers {
		asked.Go(func() {
			s, err := f.Ask(ctx, n.Addr, q)
			if err != nil {
				return
			}
			for k := range s.First {
				if len(all) > 1 {
					s.First[k].Node = n.Name()
				}
			}
			found[i] = s
		})
	}
	asked.Wait()
	sum, answers := &export.Sessions{}, 0
	for _, s := range found {
		if s == nil {
			sum.Missing++
			continue
		}
		answers++
		sum.Join(s)
	}
	if answers == 0 {
		return nil
	}
	sum.Cut(parsed.Order)
	return sum
}

// Name returns what people know the node by.
func (n *Node) Name() string {
	if n.Status == nil {
		return n.Addr
	}
	return fmt.Sprintf("%s:%d", n.Status.Host, n.Status.PID)
}
