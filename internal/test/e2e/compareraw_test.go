package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/lab/netlab"
)

// oddServer speaks a protocol that nobody knows. It greets, and answers lines: a number with so
// many bytes, and "when" with the time.
type oddServer struct{ fault string }

const oddGreeting = "\x01\x02 well met\n"

func (s *oddServer) serve(c net.Conn) {
	in := bufio.NewReader(c)
	if _, err := c.Write([]byte(oddGreeting)); err != nil {
		return
	}
	for n := 0; ; n++ {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		answer := oddAnswer(strings.TrimSpace(line))
		if s.fault == "a byte" && line == "\x02 3000\n" {
			answer[1500]++
		}
		if s.fault == "cut short" && line == "\x02 3000\n" {
			c.Write(answer[:1500])
			return
		}
		_, err = c.Write(answer)
		if err != nil || s.fault == "closes early" && n == len(oddAsks)-1 {
			return
		}
	}
}

// oddAsks are what a client asks on each connection.
var oddAsks = []string{"\x02 5", "\x02 when", "\x02 3000", "\x02 20000", "\x02 7"}

func oddAnswer(ask string) []byte {
	if ask == "\x02 when" {
		return fmt.Appendf(nil, "%020d\n", time.Now().UnixNano())
	}
	var n int
	fmt.Sscanf(ask, "\x02 %d", &n)
	return append([]byte(strings.Repeat("\x03", n)), '\n')
}

// TestCompareUnknown checks that servers whose protocol is not known are compared by their bytes
// and by how they end, and that nothing is found where nothing is changed.
func TestCompareUnknown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault string
		code  int
		want  []string
	}{
		{"", 0, nil},
		{"a byte", 4, []string{"port 80: answer: value"}},
		{"cut short", 4, []string{"port 80: answer: length"}},
		{"closes early", 4, []string{"port 80: end: end"}},
	} {
		t.Run("fault "+c.fault, func(t *testing.T) {
			t.Parallel()
			someWays(t, only(socket), func(t *testing.T, way string) {
				compareUnknown(t, way, c.fault, c.code, c.want)
			})
		})
	}
}

func compareUnknown(t *testing.T, way, fault string, code int, want []string) {
	s := newStand(t, setting{way: way})
	address := func(port int) string { return fmt.Sprintf(":%d", port) }
	accept(t, s.net.Production, address(productionPort), new(oddServer).serve)
	accept(t, s.net.Target, address(targetPort), (&oddServer{fault}).serve)
	copier := s.copyPair("--compare")
	const conns = 40
	for i := range conns {
		c := dial(t, s.net.Client, netlab.ClientAddr(i%4, s.ipv6),
			netip.AddrPortFrom(s.production, productionPort))
		if _, err := c.in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		for _, ask := range oddAsks {
			if _, err := fmt.Fprintf(c, "%s\n", ask); err != nil {
				t.Fatal(err)
			}
			if _, err := c.in.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.finish(); err != nil {
			t.Error(err)
		}
	}
	if got := copier.stop(syscall.SIGINT); got != code {
		t.Errorf("exit code %d, wanted %d\n%s", got, code, copier.output())
	}
	r := copier.account()
	checkProven(t, r, want)
	if due := checkEquation(t, r); due != conns*uint64(1+len(oddAsks)) && fault != "cut short" {
		t.Errorf("%d answers due", due)
	}
	if v := r.Compare; fault != "cut short" && float64(v.Compared) < 0.99*float64(v.Due) {
		t.Errorf("%d of %d answers were compared: excluded %v", v.Compared, v.Due, v.Excluded)
	}
}
