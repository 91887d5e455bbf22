package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/link/wire"
)

// swarm is a copier that the test plays itself: streams of a link, and what is known of each.
type swarm struct {
	t    testing.TB
	link *link.Link
	conn *link.Conn

	mu     sync.Mutex
	ends   map[uint64]ledger.Reason // those that failed, and why
	opened int
	heard  int // have their answer
}

const swarmLine = "is anybody there?"

// join connects a swarm to the stand's intercept.
func (s *stand) join(t testing.TB) *swarm {
	t.Helper()
	k, _, err := key.Load(s.key())
	if err != nil {
		t.Fatal(err)
	}
	c := &swarm{t: t, ends: map[uint64]ledger.Reason{}}
	up := make(chan *link.Conn, 1)
	c.link = link.Dial(s.intercepts[0].String(), link.NewSlot(), link.Config{
		TLS: key.ClientTLS(k), Software: "test",
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return s.net.Production.Dial(ctx, &net.Dialer{}, network, address)
		},
		OnStreams: func(conn *link.Conn, is bool) {
			if is {
				up <- conn
			}
		},
		OnEvents: c.onEvents,
		OnRoom:   func(*link.Conn) {},
	})
	t.Cleanup(c.link.Close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.link.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	c.conn = <-up
	return c
}

func (c *swarm) onEvents(_ *link.Conn, body []byte) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ev wire.StreamEvent
	for len(body) > 0 && err == nil {
		if body, err = wire.NextStreamEvent(body, &ev); err != nil {
			return err
		}
		switch {
		case ev.Kind == wire.EventOpened:
			c.opened++
		case ev.Kind == wire.EventReceived && ev.N == uint64(len(swarmLine)):
			c.heard++
		case ev.Kind == wire.EventFailed:
			c.ends[ev.ID] = ev.Reason
		}
	}
	return err
}

// settled reports whether n streams have been answered or refused.
func (c *swarm) settled(n int) func() bool {
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.heard+len(c.ends) >= n
	}
}

// operate sends operations, which must find room.
func (c *swarm) operate(ops ...wire.Op) {
	c.t.Helper()
	frame := wire.BeginFrame(nil, wire.TypeOperations)
	for i := range ops {
		frame = wire.AppendOp(frame, &ops[i])
	}
	if !c.conn.Put(wire.EndFrame(frame, 0)) {
		c.t.Fatal("the link has no room")
	}
}

// open opens stream number id, and asks.
func (c *swarm) open(id int, target netip.AddrPort) []wire.Op {
	client := netip.AddrFrom4([4]byte{198, 18, byte(id / 500), 1})
	return []wire.Op{
		{Kind: wire.OpOpen, ID: uint64(id), Client: netip.AddrPortFrom(client,
			uint16(20000+id%500)), Target: target},
		{Kind: wire.OpData, ID: uint64(id), Data: []byte(swarmLine)},
	}
}

// TestTunnelTwentyThousand checks that an intercept holds 20,000 connections in 200 MB, or as many
// as its limit of open files allows, and that those beyond are refused and counted.
func TestTunnelTwentyThousand(t *testing.T) {
	const (
		want   = 20_000
		fewest = 19_500 // where the limit of open files is 20,000, and cannot be raised
		bytes  = 200 << 20
		chunk  = 500 // that connect at the same time: as many as a server's backlog takes
	)
	s := newStand(t, setting{way: tunnel})
	var targets []netip.AddrPort
	for port := uint16(targetPort); port < targetPort+2; port++ {
		startCrowd(t, s.net.Target, "serve", fmt.Sprintf(":%d", port))
		targets = append(targets, netip.AddrPortFrom(s.target, port))
	}
	i := s.onTarget("--allow", "8080,8081")
	c := s.join(t)
	for id := 0; id < want; {
		var ops []wire.Op
		for range chunk {
			ops = append(ops, c.open(id, targets[id%len(targets)])...)
			id++
		}
		c.operate(ops...)
		eventually(t, fmt.Sprintf("%d connections", id), c.settled(id))
	}
	memory := export.PeakMemory(i.cmd.Process.Pid)
	t.Logf("%d connections, %d refused; %.1f MB at the intercept, %.1f KB each", c.heard,
		len(c.ends),
		float64(memory)/(1<<20), float64(memory)/1024/float64(c.heard))
	if memory == 0 || memory > bytes {
		t.Errorf("%d bytes of memory at most, wanted %d", memory, bytes)
	}
	if c.heard < fewest || c.heard+len(c.ends) != want || c.opened != c.heard {
		t.Errorf("%d connections opened, %d answered, %d refused; wanted %d, or at least %d",
			c.opened, c.heard, len(c.ends), want, fewest)
	}
	for id, reason := range c.ends {
		if reason != ledger.OverSessions {
			t.Errorf("connection %d failed for %v, wanted %v", id, reason, ledger.OverSessions)
		}
	}

	// Some end, and there is room again; for another copier there is, all the while.
	const again = 300
	s.join(t)
	refused, heard := len(c.ends), c.heard
	var ops []wire.Op
	for id := range again {
		ops = append(ops, wire.Op{Kind: wire.OpAbort, ID: uint64(id)})
	}
	for id := range again {
		ops = append(ops, c.open(want+id, targets[0])...)
	}
	c.operate(ops...)
	eventually(t, "more connections", c.settled(want+again))
	if c.heard != heard+again || len(c.ends) != refused {
		t.Errorf("%d more connections, %d refused; wanted %d", c.heard-heard, len(c.ends)-refused,
			again)
	}
}
