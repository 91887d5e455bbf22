package collect

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"tcpcopy/internal/doctor"
)

const (
	pingRounds   = 3
	pingInterval = 150 * time.Millisecond
	pingPatience = 600 * time.Millisecond
	smallPacket  = 84 // bytes with the IP header
)

// ping sends echoes of several sizes, up to the MTU, that may not be fragmented.
func ping(ctx context.Context, to netip.Addr, mtu int) *doctor.Ping {
	p := &doctor.Ping{Smallest: smallPacket}
	conn, headers, err := openPing(to)
	if err != nil {
		p.Err = err.Error()
		return p
	}
	defer conn.Close()
	sizes := []int{smallPacket, 1280, 1400, 1450, 1480, 1492, mtu}
	slices.Sort(sizes)
	sizes = slices.Compact(sizes)
	sizes = sizes[:slices.Index(sizes, mtu)+1]
	id := os.Getpid() & 0xffff
	answered := map[int]int{} // by size
	for range pingRounds {
		for i, size := range sizes {
			if err := echo(conn, to, id, i, size-headers); err != nil &&
				!errors.Is(err, syscall.EMSGSIZE) {
				p.Err = err.Error()
				return p
			}
		}
		p.Sent++
		collectEchoes(conn, to, id, sizes, answered, pingInterval)
		if ctx.Err() != nil {
			break
		}
	}
	collectEchoes(conn, to, id, sizes, answered, pingPatience)
	p.Small, p.Full = answered[smallPacket], answered[mtu]
	for size := range answered {
		p.Largest = max(p.Largest, size)
	}
	return p
}

// openPing opens a socket for ICMP whose packets are not fragmented. It returns how many bytes of a
// packet its headers take.
func openPing(to netip.Addr) (conn *icmp.PacketConn, headers int, err error) {
	const (
		mtuDiscover4, mtuDiscover6 = 10, 23 // IP_MTU_DISCOVER, IPV6_MTU_DISCOVER
		probe                      = 3      // IP_PMTUDISC_PROBE: DF, whatever the kernel knows
	)
	level, option := syscall.IPPROTO_IP, mtuDiscover4
	network, any := "ip4:icmp", "0.0.0.0"
	headers = ipv4.HeaderLen + 8
	if to.Is6() {
		level, option = syscall.IPPROTO_IPV6, mtuDiscover6
		network, any, headers = "ip6:ipv6-icmp", "::", ipv6.HeaderLen+8
	}
	if conn, err = icmp.ListenPacket(network, any); err != nil {
		return nil, 0, err
	}
	var raw syscall.Conn
	if to.Is6() {
		raw, _ = conn.IPv6PacketConn().PacketConn.(syscall.Conn)
	} else {
		raw, _ = conn.IPv4PacketConn().PacketConn.(syscall.Conn)
	}
	err = errors.New("no descriptor")
	if raw != nil {
		var c syscall.RawConn
		if c, err = raw.SyscallConn(); err == nil {
			var failed error
			err = c.Control(func(fd uintptr) {
				failed = syscall.SetsockoptInt(int(fd), level, option, probe)
			})
			err = errors.Join(err, failed)
		}
	}
	if err != nil {
		conn.Close()
		return nil, 0, err
	}
	return conn, headers, nil
}

func echo(conn *icmp.PacketConn, to netip.Addr, id, seq, payload int) error {
	m := icmp.Message{
		Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: id, Seq: seq, Data: make([]byte, payload)},
	}
	if to.Is6() {
		m.Type = ipv6.ICMPTypeEchoRequest
	}
	b, err := m.Marshal(nil)
	if err != nil {
		return err
	}
	_, err = conn.WriteTo(b, &net.IPAddr{IP: to.AsSlice(), Zone: to.Zone()})
	return err
}

// collectEchoes counts the answers that come within a time, by size.
func collectEchoes(
	conn *icmp.PacketConn, to netip.Addr, id int, sizes []int, answered map[int]int,
	d time.Duration,
) {
	protocol := 1
	if to.Is6() {
		protocol = 58
	}
	_ = conn.SetReadDeadline(time.Now().Add(d))
	b := make([]byte, 1<<16)
	for {
		n, from, err := conn.ReadFrom(b)
		if err != nil {
			return
		}
		m, err := icmp.ParseMessage(protocol, b[:n])
		if err != nil || m.Type != ipv4.ICMPTypeEchoReply && m.Type != ipv6.ICMPTypeEchoReply {
			continue
		}
		e, ok := m.Body.(*icmp.Echo)
		a, _ := from.(*net.IPAddr)
		if !ok || a == nil || e.ID != id || e.Seq >= len(sizes) || !a.IP.Equal(to.AsSlice()) {
			continue
		}
		answered[sizes[e.Seq]]++
	}
}
