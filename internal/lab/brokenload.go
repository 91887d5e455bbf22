package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"tcpcopy/internal/lab/netlab"
)

// serve starts production's server and, as the fault has it, the target's.
func (b *Broken) serve(ctx context.Context) error {
	network := "tcp4"
	any, loopback := "0.0.0.0", "127.0.0.1"
	if b.options.IPv6 {
		network, any, loopback = "tcp6", "[::]", "[::1]"
	}
	listen := func(host *netlab.Namespace, ip string, port int) (*echo, error) {
		fault := listensWell
		if port == targetPort {
			fault = b.options.Fault.server
		}
		host, port = b.serverAt(host, port)
		l, err := host.Listen(network, fmt.Sprintf("%s:%d", ip, port))
		if err != nil {
			return nil, fmt.Errorf("lab: start server: %w", err)
		}
		return serveEcho(l, fault, b.options.Fault.load), nil
	}
	var err error
	if b.production, err = listen(b.net.Production, any, productionPort); err != nil {
		return err
	}
	switch b.options.Fault.server {
	case listensNowhere:
		b.target = &echo{}
	case listensOnLoopback:
		b.target, err = listen(b.net.Target, loopback, targetPort)
	case listensInContainer:
		if b.target, err = listen(b.net.Assistant, any, targetPort); err == nil {
			b.holder, err = startChild(ctx, b.net.Assistant, b.dir, "sleep", "holder", "", "600")
		}
	case listensOnDevice:
		b.target, err = b.listenOnDevice(network, any)
	case acceptsNothing:
		var l net.Listener
		l, err = b.net.Target.Listen(network, fmt.Sprintf("%s:%d", any, targetPort))
		b.target = &echo{listener: l}
	default:
		b.target, err = listen(b.net.Target, any, targetPort)
	}
	return err
}

// listenOnDevice starts the test server, bound to the target's interface.
func (b *Broken) listenOnDevice(network, any string) (*echo, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = syscall.SetsockoptString(int(fd), syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE,
				netlab.Device)
		})
		return errors.Join(err, failed)
	}}
	config.SetMultipathTCP(false)
	var l net.Listener
	err := b.net.Target.Try(func() (err error) {
		l, err = config.Listen(context.Background(), network, fmt.Sprintf("%s:%d", any, targetPort))
		return err
	})
	if err != nil {
		return nil, err
	}
	return serveEcho(l, listensWell, b.options.Fault.load), nil
}

// ask has one client send requests, over one connection after another.
func (b *Broken) ask(ctx context.Context, client int) {
	v6 := b.options.IPv6
	host, to := b.net.Client, netlab.ProductionAddr4
	from := netlab.ClientAddr(client, v6)
	if v6 {
		to = netlab.ProductionAddr6
	}
	if b.options.Fault.load == localLoad {
		host, to = b.net.Production, netip.MustParseAddr("127.0.0.1")
		if v6 {
			to = netip.IPv6Loopback()
		}
		from = to
	}
	for n := 0; ctx.Err() == nil; n++ {
		d := net.Dialer{
			LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Timeout: time.Second,
		}
		c, err := host.Dial(ctx, &d, "tcp", netip.AddrPortFrom(to, productionPort).String())
		if err != nil {
			pause(ctx, requestEvery)
			continue
		}
		talk := b.talk
		if b.options.Fault.load == sqlLoad {
			talk = b.talkSQL
		}
		talk(ctx, c, fmt.Sprintf("client %d connection %d", client, n))
		c.Close()
	}
}

// talk sends requests on a connection, and reads the answers.
func (b *Broken) talk(ctx context.Context, c net.Conn, name string) {
	answers := bufio.NewReader(c)
	for i := range loadRequests {
		line := fmt.Sprintf("%s request %d\n", name, i)
		if b.options.Fault.load == tlsLoad { // a record of TLS, with its length
			begin := "\x17\x03\x03" // of data
			if i == 0 {
				begin, line = "\x16\x03\x01", "\x01"+line // of a ClientHello
			}
			line = begin + string([]byte{0, byte(len(line))}) + line
		}
		_ = c.SetDeadline(time.Now().Add(time.Second))
		if _, err := c.Write([]byte(line)); err != nil {
			return
		}
		if _, err := answers.ReadString('\n'); err != nil {
			return
		}
		every := requestEvery
		if b.options.Fault.load == busyLoad {
			every = busyEvery
		}
		if !pause(ctx, every) {
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
