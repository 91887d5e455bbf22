package app

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

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

// sequence numbers the states of a run.
type sequence struct {
	last         atomic.Uint64
	reloadFailed atomic.Bool // the last SIGHUP has changed nothing
}

func (q *sequence) next() uint64 { return q.last.Add(1) }

// panel shows this node to readers: on its status socket, to Prometheus, and on its dashboard.
type panel struct {
	kind string
	log  *logbook
	get  func() *view // takes a new state; nil: there is none now

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
		n.Privileges = p.log.privileges.Load()
	}
	p.last, p.at = v, time.Now()
	return v
}

func (p *panel) config() *status.Config {
	return &status.Config{
		Node: func() *status.Node {
			if v := p.view(); v != nil {
				return &v.node
			}
			return nil
		},
		Metrics: metrics.Handler(func() metrics.Source {
			if v := p.view(); v != nil {
				return v.metrics
			}
			return nil
		}),
		Ready: p.log.ready.Load,
	}
}

// show shows the states that get returns at the addresses of c. The function that it returns ends
// that. At the usual place for a status socket it is no failure if the node cannot be shown.
func show(
	kind string,
	c *config.Process,
	log *logbook,
	get func() *view,
) (end func(), err error) {
	p := &panel{kind: kind, log: log, get: get}
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
	s, err := showStatus(kind, c, p)
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
func showStatus(kind string, c *config.Process, p *panel) (*status.Server, error) {
	addr, usual := c.Status, c.Status == ""
	switch {
	case addr == config.StatusOff:
		return nil, nil
	case usual:
		addr = status.Default(kind)
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
