package lab

import (
	"context"
	"fmt"
	"net"
	"time"

	"tcpcopy/internal/lab/netlab"
)

// Stage lets Options.Disturb change a run while the load goes on. Only Disturb may call its
// methods. The run itself waits for Disturb to return.
type Stage struct{ r *run }

// Net is the lab's network.
func (s *Stage) Net() *netlab.Net { return s.r.net }

// Wait waits for d, or until ctx ends.
func (s *Stage) Wait(ctx context.Context, d time.Duration) { s.r.wait(ctx, d) }

// CompareAfter restricts the comparison to requests that production receives d from now, or later.
func (s *Stage) CompareAfter(d time.Duration) { s.r.from = s.r.clock.now() + d }

// Target returns how many requests and connections the target has received.
func (s *Stage) Target() (requests, connections int64) {
	return s.r.target.record.requests.Load(), s.r.target.record.opened.Load()
}

// Production returns how many requests and connections production has received.
func (s *Stage) Production() (requests, connections int64) {
	return s.r.production.record.requests.Load(), s.r.production.record.opened.Load()
}

// StopTarget stops the test server and closes its connections, as the end of its process would.
func (s *Stage) StopTarget() { s.r.target.close() }

// StartTarget starts the test server again.
func (s *Stage) StartTarget() error {
	l, err := s.r.listenTarget()
	if err != nil {
		return err
	}
	s.r.target.reopen(l)
	return nil
}

// KillIntercept kills the intercept by SIGKILL.
func (s *Stage) KillIntercept() { kill(s.r.assist) }

// StartIntercept starts it again, and waits until it is ready.
func (s *Stage) StartIntercept(ctx context.Context) (err error) {
	s.r.assist, err = s.r.start(ctx, s.r.assistAt, "intercept", s.r.assistArgs)
	return err
}

// KillCopier kills the copier by SIGKILL.
func (s *Stage) KillCopier() { kill(s.r.copier) }

// StartCopier starts it again, and waits until it is ready.
func (s *Stage) StartCopier(ctx context.Context) (err error) {
	s.r.copier, err = s.r.start(ctx, s.r.copyAt, "copy", s.r.copyArgs)
	return err
}

// KillAgent kills the agent by SIGKILL.
func (s *Stage) KillAgent() { kill(s.r.agent) }

// StartAgent starts it again, and waits until it captures.
func (s *Stage) StartAgent(ctx context.Context) (err error) {
	s.r.agent, err = s.r.start(ctx, s.r.net.Production, "capture", s.r.agentArgs)
	return err
}

// listenTarget opens the test server's port.
func (r *run) listenTarget() (net.Listener, error) {
	l, err := r.net.Target.Listen(r.network(), fmt.Sprintf(":%d", targetPort))
	if err != nil {
		return nil, fmt.Errorf("start test server: %w", err)
	}
	if r.options.Accept != nil {
		l = r.options.Accept(l)
	}
	return l, nil
}

// network is what servers listen on.
func (r *run) network() string {
	if r.options.IPv6 {
		return "tcp6"
	}
	return "tcp4"
}

// disturb calls Options.Disturb.
func (r *run) disturb(ctx context.Context) error {
	if r.options.Disturb == nil {
		return nil
	}
	return r.options.Disturb(ctx, &Stage{r})
}

func kill(c *child) {
	c.cmd.Process.Kill() // fails only where it has ended
	<-c.ended
}
