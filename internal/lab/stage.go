package lab

import (
	"context"
	"fmt"
	"net"
	"time"

	"tcpcopy/internal/lab/netlab"
)

// Stage is what Options.Disturb may do to a run while the load goes on. Its methods are for Disturb
// alone, which play calls: nothing else of the run moves meanwhile but servers, clients and
// commands.
type Stage struct{ r *run }

// Net is the lab's network.
func (s *Stage) Net() *netlab.Net { return s.r.net }

// Wait lets d pass, or less where ctx ends.
func (s *Stage) Wait(ctx context.Context, d time.Duration) { s.r.wait(ctx, d) }

// CompareAfter has only those requests compared that production receives d from now on, or later.
func (s *Stage) CompareAfter(d time.Duration) { s.r.from = s.r.clock.now() + d }

// Target says how many requests, and how many connections, the target has received.
func (s *Stage) Target() (requests, connections int64) {
	return s.r.target.record.requests.Load(), s.r.target.record.opened.Load()
}

// Production is Target of production.
func (s *Stage) Production() (requests, connections int64) {
	return s.r.production.record.requests.Load(), s.r.production.record.opened.Load()
}

// StopTarget ends the test server as the end of its process would: its connections are closed.
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

// KillIntercept kills the intercept without a word.
func (s *Stage) KillIntercept() { kill(s.r.assist) }

// StartIntercept starts it again, and waits until it is ready.
func (s *Stage) StartIntercept(ctx context.Context) (err error) {
	s.r.assist, err = s.r.start(ctx, s.r.assistAt, "intercept", s.r.assistArgs)
	return err
}

// KillCopier kills the copier without a word.
func (s *Stage) KillCopier() { kill(s.r.copier) }

// StartCopier starts it again, and waits until it is ready.
func (s *Stage) StartCopier(ctx context.Context) (err error) {
	s.r.copier, err = s.r.start(ctx, s.r.copyAt, "copy", s.r.copyArgs)
	return err
}

// KillAgent kills the agent without a word.
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

// disturb lets the caller of Run disturb the load that has begun.
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
