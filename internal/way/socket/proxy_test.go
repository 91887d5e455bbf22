package socket

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"tcpcopy/internal/core/session"
)

// readProxy reads a PROXY protocol header as a server would, written from proxy-protocol.txt
// alone, and says what it found: the family and the two addresses.
func readProxy(r *bufio.Reader) (string, error) {
	first, err := r.Peek(12)
	if err != nil {
		return "", err
	}
	if string(first) == "\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A" {
		head := make([]byte, 16)
		if _, err := io.ReadFull(r, head); err != nil {
			return "", err
		}
		rest := make([]byte, binary.BigEndian.Uint16(head[14:]))
		if _, err := io.ReadFull(r, rest); err != nil {
			return "", err
		}
		var size int
		switch {
		case head[12] == 0x20:
			return "LOCAL", nil
		case head[12] != 0x21:
			return "", fmt.Errorf("version and command %#x", head[12])
		case head[13] == 0x11:
			size = 4
		case head[13] == 0x21:
			size = 16
		default:
			return "", fmt.Errorf("family %#x", head[13])
		}
		if len(rest) != 2*size+4 {
			return "", fmt.Errorf("%d bytes of addresses", len(rest))
		}
		src := net.IP(rest[:size]).String()
		dst := net.IP(rest[size : 2*size]).String()
		return fmt.Sprintf("%d %s %s %d %d", 8*size, src, dst,
			binary.BigEndian.Uint16(rest[2*size:]), binary.BigEndian.Uint16(rest[2*size+2:])), nil
	}
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	if len(line) > 107 || !strings.HasSuffix(line, "\r\n") {
		return "", fmt.Errorf("line %q", line)
	}
	f := strings.Split(strings.TrimSuffix(line, "\r\n"), " ")
	if len(f) == 2 && f[0] == "PROXY" && f[1] == "UNKNOWN" {
		return "UNKNOWN", nil
	}
	if len(f) != 6 || f[0] != "PROXY" {
		return "", fmt.Errorf("line %q", line)
	}
	src, dst := net.ParseIP(f[2]), net.ParseIP(f[3])
	bits := map[string]int{"TCP4": 32, "TCP6": 128}[f[1]]
	if src == nil || dst == nil || strings.Contains(f[2], ":") != (bits == 128) ||
		strings.Contains(f[3], ":") != (bits == 128) {
		return "", fmt.Errorf("line %q", line)
	}
	return fmt.Sprintf("%d %s %s %s %s", bits, src, dst, f[4], f[5]), nil
}

func TestProxyHeader(t *testing.T) {
	for _, tc := range []struct {
		name               string
		client, production string
		v1, v2             string
	}{
		{"IPv4", "198.51.100.7:40000", "192.0.2.1:80", "32 198.51.100.7 192.0.2.1 40000 80", ""},
		{"IPv6", "[2001:db8::7]:40000", "[2001:db8::1]:443",
			"128 2001:db8::7 2001:db8::1 40000 443", ""},
		{"IPv6 with a zone", "[fe80::7%lo]:40000", "[fe80::1%lo]:443",
			"128 fe80::7 fe80::1 40000 443", ""},
		{"both mapped", "[::ffff:198.51.100.7]:1", "[::ffff:192.0.2.1]:65535",
			"32 198.51.100.7 192.0.2.1 1 65535", ""},
		{"one mapped", "[::ffff:198.51.100.7]:1", "192.0.2.1:2", "32 198.51.100.7 192.0.2.1 1 2",
			""},
		// net.IP shows a mapped address as IPv4; the family tells.
		{"mixed", "198.51.100.7:1", "[2001:db8::1]:2", "128 198.51.100.7 2001:db8::1 1 2", ""},
		{"unknown", "", "192.0.2.1:2", "UNKNOWN", "LOCAL"},
		{"longest", "[1111:2222:3333:4444:5555:6666:7777:8888]:65535",
			"[1111:2222:3333:4444:5555:6666:7777:8889]:65535",
			"128 1111:2222:3333:4444:5555:6666:7777:8888 " +
				"1111:2222:3333:4444:5555:6666:7777:8889 65535 65535", ""},
	} {
		if tc.v2 == "" {
			tc.v2 = tc.v1
		}
		for v, want := range map[Proxy]string{ProxyV1: tc.v1, ProxyV2: tc.v2} {
			t.Run(fmt.Sprintf("%s, version %d", tc.name, v), func(t *testing.T) {
				header := make(chan string, 1)
				body := make(chan string, 1)
				target := serve(t, "127.0.0.1", func(c *net.TCPConn) {
					r := bufio.NewReader(c)
					got, err := readProxy(r)
					if err != nil {
						t.Error(err)
					}
					header <- got // before the copy has sent a byte
					b, _ := io.ReadAll(r)
					body <- string(b)
				})
				c := play(t, Config{Proxy: v}).open(1, target, []byte("hello"), 0,
					func(spec *session.OpenSpec) {
						spec.Client, _ = netip.ParseAddrPort(tc.client)
						spec.Production, _ = netip.ParseAddrPort(tc.production)
					})
				if got := <-header; got != want {
					t.Errorf("header says %q, wanted %q", got, want)
				}
				c.release(5)
				c.closeWrite()
				if got := <-body; got != "hello" {
					t.Errorf("after the header comes %q, wanted %q", got, "hello")
				}
				if ev := c.last(); ev.Kind != session.Finished || ev.N != 5 {
					t.Errorf("ended with %+v, wanted finished with 5 bytes: the header does not "+
						"count", ev)
				}
			})
		}
	}
}

func TestResetCountsNoHeader(t *testing.T) {
	target := serve(t, "127.0.0.1", func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		_, _ = readProxy(r)
		_, _ = io.ReadFull(r, make([]byte, 50))
		_ = c.SetLinger(0)
	})
	c := play(t, Config{Proxy: ProxyV1}).open(1, target, pattern(50), 0)
	c.release(50)
	if ev := c.last(); ev.Kind != session.ResetByPeer || ev.N != 50 {
		t.Errorf("ended with %+v, wanted a reset after 50 bytes", ev)
	}
}
