package app

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/metrics"
	"tcpcopy/internal/account/status"
	"tcpcopy/internal/config"
)

// view is the state of this node at one moment. Everything that shows the node shows views, so two
// numbers with the same sequence number are the same.
type view struct {
	node    status.Node // but for what the panel adds
	metrics metrics.Source
}

// sequence numbers the states of a run, and keeps what they all show.
type sequence struct {
	last         atomic.Uint64
	reloadFailed atomic.Bool // the last SIGHUP has changed nothing

	mu    sync.Mutex // guards found
	found []export.Finding
}

func (q *sequence) next() uint64 { return q.last.Add(1) }

// find adds a finding of the check at the start.
func (q *sequence) find(f export.Finding) {
	q.mu.Lock()
	q.found = append(q.found, f)
	q.mu.Unlock()
}

// findings returns the findings so far.
func (q *sequence) findings() []export.Finding {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.found)
}

// panel shows this node to readers: on its status socket, to Prometheus, and on its dashboard.
type panel struct {
	kind  string
	ready *atomic.Bool
	get   func() *view // takes a new state; nil: there is none now
	// sessions returns some of a copier's sessions; nil: the node is no copier.
	sessions status.SessionsFunc

	mu   sync.Mutex // guards what follows
	last *view
	at   time.Time
}

// fresh is how long a view serves those who ask: any number of readers costs ten states a second at
// most.
const fresh = 100 * time.Millisecond

func (p *panel) view() *view {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last != nil && time.Since(p.at) < fresh {
		return p.last
	}
	v := p.get()
	if v != nil {
		n := &v.node
		n.Kind, n.Version, n.PID, n.Now = p.kind, Version(), os.Getpid(), time.Now()
		n.Host, _ = os.Hostname()
	}
	p.last, p.at = v, time.Now()
	return v
}

// node returns the state of the node, with its account; nil if there is none now. A copier's
// account is made here, since a scrape does not need it.
func (p *panel) node() *status.Node {
	v := p.view()
	if v == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := v.metrics.(*metrics.Copier); ok && v.node.Account == nil {
		v.node.Account, _ = json.Marshal(export.NewReport(c.Snapshot))
	}
	return &v.node
}

func (p *panel) config() *status.Config {
	return &status.Config{
		Node: p.node,
		Metrics: metrics.Handler(func() metrics.Source {
			if v := p.view(); v != nil {
				return v.metrics
			}
			return nil
		}),
		Sessions: p.sessions,
		Ready:    p.ready.Load,
	}
}

// show shows the states that get returns at the addresses of c. The function that it returns ends
// that. At the usual place for a status socket it is no failure if the node cannot be shown.
func show(
	kind string,
	c *config.Process,
	ready *atomic.Bool,
	get func() *view,
) (end func(), err error) {
	return (&panel{kind: kind, ready: ready, get: get}).show(c)
}

// show is the function show for a panel.
func (p *panel) show(c *config.Process) (end func(), err error) {
	var servers []*status.Server
	end = func() {
		for _, s := range servers {
			s.Close()
		}
	}
	if c.Web.Metrics != "" {
		s, err := status.ListenMetrics(c.Web.Metrics, c.Web.Access, p.config())
		if err != nil {
			return nil, &config.Problem{
				Flag: "--metrics", Value: c.Web.Metrics,
				What: "cannot be served on: " + errors.Unwrap(err).Error(),
			}
		}
		servers = append(servers, s)
	}
	s, err := p.showStatus(c)
	if err != nil {
		end()
		return nil, err
	}
	if s != nil {
		servers = append(servers, s)
	}
	return end, nil
}

// showStatus serves the status socket; it returns nil if there is to be none.
func (p *panel) showStatus(c *config.Process) (*status.Server, error) {
	addr, usual := c.Status, c.Status == ""
	switch {
	case addr == config.StatusOff:
		return nil, nil
	case usual:
		addr = status.Default(p.kind)
		if err := status.MakeDir(); err != nil {
			return nil, nil
		}
		status.Nodes() // removes what killed ones have left
	}
	s, err := status.Listen(addr, c.Web.Access, p.config())
	switch {
	case err == nil:
		return s, nil
	case usual:
		return nil, nil
	}
	return nil, &config.Problem{
		Flag: "--status", Value: addr, What: "cannot be answered on: " + errors.Unwrap(err).Error(),
	}
}
