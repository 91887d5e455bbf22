package intercept_test

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/afpacket"
	"tcpcopy/internal/source/locals"
	"tcpcopy/internal/test/testnet"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/raw/intercept"
	"tcpcopy/internal/way/raw/send"
)

// greetingTarget makes a target in another namespace, whose servers send 100 bytes on each
// connection.
func greetingTarget(t *testing.T) {
	targetNS := testnet.New(t)
	testnet.Veth(t, "a0", "10.40.0.1/24", targetNS, "t0", "10.40.0.2/24")
	testnet.Address(t, "a0", "fd40::1/64")
	var listeners []net.Listener
	targetNS.Do(func() {
		testnet.Address(t, "t0", "fd40::2/64")
		testnet.Route(t, "t0", "10.50.0.0/24", "10.40.0.1")
		testnet.Route(t, "t0", "fd50::/64", "fd40::1")
		for _, a := range []string{"10.40.0.2:8080", "[fd40::2]:8080"} {
			ln, err := net.Listen("tcp", a)
			if err != nil {
				t.Error(err)
				return
			}
			listeners = append(listeners, ln)
			t.Cleanup(func() { ln.Close() })
		}
	})
	if len(listeners) != 2 {
		t.FailNow()
	}
	for _, ln := range listeners {
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				c.Write(make([]byte, 100))
				t.Cleanup(func() { c.Close() })
			}
		}()
	}
}

// dialHere is dial from this namespace, in which the links' goroutines are not: they use a
// connection that was made here.
func dialHere(t *testing.T, addr string) *copier {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	g := dial(t, []string{addr}, func(_ *copier, cfg *link.Config) {
		cfg.Targets = nil
		cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
			if c == nil {
				return nil, net.ErrClosed
			}
			own := c
			c = nil
			return own, nil
		}
	})
	ready(t, g)
	return g
}

// TestRealTarget: a target's kernel answers SYNs that two copiers sent from clients' addresses. Its
// answers are routed to the assistant, where the ring captures them, and each reaches its copier: a
// SYN-ACK, the answer's data, and the refusal of a closed port.
func TestRealTarget(t *testing.T) {
	testnet.Enter(t) // the assistant
	greetingTarget(t)
	src, err := afpacket.Open(afpacket.Config{Interfaces: []string{"a0"}, IgnoreOutgoing: true,
		Now: now})
	if err != nil {
		t.Fatal(err)
	}
	here, err := locals.Watch()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	d := start(t, func(c *intercept.Config) {
		c.Sources, c.Local = []source.Source{src}, here
		c.ProcSys, c.Devices = "/proc/sys", []string{"a0"}
	})
	snd, err := send.New(send.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer snd.Close()
	a, b := dialHere(t, d.addr), dialHere(t, d.addr)
	for i, addrs := range []struct{ client, target, closed string }{
		{"10.50.0.9", "10.40.0.2:8080", "10.40.0.2:81"},
		{"fd50::9", "[fd40::2]:8080", "[fd40::2]:81"},
	} {
		for j, c := range []*copier{a, b} {
			other := []*copier{b, a}[j]
			from := netip.AddrPortFrom(netip.MustParseAddr(addrs.client), uint16(5000+10*i+j))
			to := netip.MustParseAddrPort(addrs.target)
			closed := netip.MustParseAddrPort(addrs.closed)
			refused := c.meet(t, snd, from, to, closed)
			if n := other.count(from) + other.count(refused); n != 0 {
				t.Errorf("the other copier got %d headers", n)
			}
		}
	}
	if s := d.Snapshot(); s.Frames.Malformed != 0 || s.Route.TakenOver != 0 {
		t.Errorf("%+v", s)
	}
}

// meet opens a connection to a server, and one to a closed port, and checks what is reported of
// both. It returns the client's end of the second.
func (c *copier) meet(t *testing.T, snd *send.Sender, from, to, closed netip.AddrPort) (
	refused netip.AddrPort) {
	t.Helper()
	refused = netip.AddrPortFrom(from.Addr(), from.Port()+100)
	syn := packet.Segment{Src: from, Dst: to, Seq: 0x7700, Flags: packet.SYN, Window: 65535,
		Opts: packet.Options{MSS: 1000}}
	syn.Seq |= seqnum.Value(c.Slot())
	toClosed := syn
	toClosed.Src, toClosed.Dst = refused, closed
	if n, _ := snd.Send([]packet.Segment{syn, toClosed}); n != 2 {
		t.Fatalf("sent %d of 2", n)
	}
	wait(t, "the SYN-ACK and the refusal", func() bool {
		return c.count(from) >= 1 && c.count(refused) >= 1
	})
	synAck, rst := c.first(from), c.first(refused)
	if !synAck.Flags.Has(packet.SYN|packet.ACK) || synAck.Ack != syn.Seq+1 || synAck.Src != to {
		t.Errorf("%v", &synAck)
	}
	if !rst.Flags.Has(packet.RST|packet.ACK) || rst.Seq != 0 || rst.Ack != syn.Seq+1 {
		t.Errorf("%v", &rst)
	}
	ack := packet.Segment{Src: from, Dst: to, Seq: syn.Seq + 1, Ack: synAck.Seq + 1,
		Flags: packet.ACK, Window: 65535}
	snd.Send([]packet.Segment{ack})
	wait(t, "the greeting", func() bool { return c.bytes(from) >= 100 })
	return refused
}
