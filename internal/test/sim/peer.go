package sim

import (
	"bytes"
	"fmt"
	"math/rand"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	gtcp "gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// PeerOptions vary the far end.
type PeerOptions struct {
	Addr    netip.AddrPort
	MTU     int // 0: 1500
	NoSACK  bool
	RecvBuf int // bytes of the receive buffer; 0: gVisor's
	Seed    int64
}

// Peer is a host with gVisor's TCP and one listening socket. All of it happens in the goroutine
// that runs the world.
type Peer struct {
	// Out is called for each IP packet that the peer sends.
	Out func(b []byte)
	// Serve is called after anything has happened at the peer: the server's program.
	Serve func()

	w      *World
	stack  *stack.Stack
	link   *channel.Endpoint
	ln, ep tcpip.Endpoint
	proto  tcpip.NetworkProtocolNumber
	busy   bool
	// Received is what the server's program has read.
	Received []byte
	// EOF is set if the client has closed. Err is any other error.
	EOF bool
	Err error
}

// randBytes is gVisor's source of secrets.
type randBytes struct{ r *rand.Rand }

func (r randBytes) Read(b []byte) (int, error) { return r.r.Read(b) }

func check(what string, err tcpip.Error) {
	if err != nil {
		panic(fmt.Sprintf("%s: %v", what, err))
	}
}

// NewPeer returns a listening peer. Close must be called.
func NewPeer(w *World, o PeerOptions) *Peer {
	p := &Peer{w: w}
	r := rand.New(rand.NewSource(o.Seed))
	p.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{gtcp.NewProtocol},
		Clock:              &clock{w: w, after: p.settle},
		RandSource:         rand.NewSource(o.Seed),
		SecureRNG:          randBytes{r},
	})
	sack := tcpip.TCPSACKEnabled(!o.NoSACK)
	check("set SACK", p.stack.SetTransportProtocolOption(gtcp.ProtocolNumber, &sack))
	if o.RecvBuf > 0 {
		size := tcpip.TCPReceiveBufferSizeRangeOption{Min: 1, Default: o.RecvBuf, Max: o.RecvBuf}
		check("set buffer", p.stack.SetTransportProtocolOption(gtcp.ProtocolNumber, &size))
		moderate := tcpip.TCPModerateReceiveBufferOption(false)
		check("set buffer", p.stack.SetTransportProtocolOption(gtcp.ProtocolNumber, &moderate))
	}
	mtu := uint32(1500)
	if o.MTU > 0 {
		mtu = uint32(o.MTU)
	}
	p.link = channel.New(1<<14, mtu, "")
	check("create NIC", p.stack.CreateNIC(1, p.link))
	addr := tcpip.AddrFromSlice(o.Addr.Addr().AsSlice())
	p.proto = ipv4.ProtocolNumber
	subnet := header.IPv4EmptySubnet
	if o.Addr.Addr().Is6() {
		p.proto = ipv6.ProtocolNumber
		subnet = header.IPv6EmptySubnet
	}
	check("add address", p.stack.AddProtocolAddress(1, tcpip.ProtocolAddress{
		Protocol: p.proto, AddressWithPrefix: addr.WithPrefix(),
	}, stack.AddressProperties{}))
	p.stack.SetRouteTable([]tcpip.Route{{Destination: subnet, NIC: 1}})
	var q waiter.Queue
	ln, err := p.stack.NewEndpoint(gtcp.ProtocolNumber, p.proto, &q)
	check("listen", err)
	check("bind", ln.Bind(tcpip.FullAddress{Addr: addr, Port: o.Addr.Port()}))
	check("listen", ln.Listen(16))
	p.ln = ln
	return p
}

// Inject hands the peer an IP packet; it must not change afterwards.
func (p *Peer) Inject(b []byte) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	p.link.InjectInbound(p.proto, pkt)
	pkt.DecRef()
	p.settle()
}

// settle waits until gVisor's goroutines have nothing left to do, lets the server's program run,
// and sends what came of it.
func (p *Peer) settle() {
	if p.busy {
		return
	}
	p.busy = true
	defer func() { p.busy = false }()
	for round := 0; ; round++ {
		p.stack.Pause() // its processors pause when their queues are empty, and not before
		p.stack.Resume()
		if p.Serve != nil {
			p.Serve()
		}
		sent := false
		for pkt := p.link.Read(); pkt != nil; pkt = p.link.Read() {
			v := pkt.ToView()
			b := append([]byte(nil), v.AsSlice()...)
			v.Release()
			pkt.DecRef()
			sent = true
			if p.Out != nil {
				p.Out(b)
			}
		}
		if !sent || round > 100 {
			return
		}
	}
}

// Accept accepts a connection if one waits, and reports whether there is one.
func (p *Peer) Accept() bool {
	if p.ep != nil {
		return true
	}
	ep, _, err := p.ln.Accept(nil)
	if err != nil {
		return false
	}
	p.ep = ep
	return true
}

// Read reads at most max bytes into Received.
func (p *Peer) Read(max int) {
	for max > 0 && !p.EOF && p.Err == nil {
		var b bytes.Buffer
		res, err := p.ep.Read(&tcpip.LimitedWriter{W: &b, N: int64(max)}, tcpip.ReadOptions{})
		switch err.(type) {
		case nil:
			p.Received = append(p.Received, b.Bytes()...)
			max -= res.Count
		case *tcpip.ErrWouldBlock:
			return
		case *tcpip.ErrClosedForReceive:
			p.EOF = true
		default:
			p.Err = fmt.Errorf("read: %v", err)
		}
	}
}

// Write writes b and returns how much of it the socket took.
func (p *Peer) Write(b []byte) int {
	n, err := p.ep.Write(bytes.NewReader(b), tcpip.WriteOptions{})
	switch err.(type) {
	case nil, *tcpip.ErrWouldBlock:
	default:
		p.Err = fmt.Errorf("write: %v", err)
	}
	return int(n)
}

// Shutdown closes the server's direction.
func (p *Peer) Shutdown() { p.ep.Shutdown(tcpip.ShutdownWrite) }

// Reset closes the connection with a RST.
func (p *Peer) Reset() {
	p.ep.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: true, Timeout: 0})
	p.ep.Close()
}

// At plans something for the server's program to do.
func (p *Peer) At(d time.Duration, do func()) {
	p.w.At(p.w.Now().Add(d), func() { do(); p.settle() })
}

// Close ends the peer and its goroutines.
func (p *Peer) Close() {
	p.Out, p.Serve = nil, nil
	p.busy = true
	p.stack.Close()
	p.stack.Wait()
}
