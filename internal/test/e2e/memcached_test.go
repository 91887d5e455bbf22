package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tcpcopy/internal/lab/netlab"
)

const (
	memcachedProduction = 11211
	memcachedTarget     = 11212
)

// startMemcached starts a memcached and waits until it answers.
func startMemcached(t testing.TB, host *netlab.Namespace, port uint16) *process {
	t.Helper()
	p := start(t, host, "memcached", find(t, "memcached"), "-u", "root", "-p", fmt.Sprint(port),
		"-U", "0", "-m", "256", "-t", "2")
	eventually(t, "memcached listens", func() bool {
		if p.hasEnded() {
			t.Fatalf("memcached ended: %s", p.output())
		}
		c, err := host.Dial(t.Context(), nil, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
	return p
}

// memcachedClient speaks the text protocol on one connection, on keys of its own.
type memcachedClient struct {
	c   net.Conn
	in  *bufio.Reader
	rnd *rand.Rand
	id  int
}

// request is one command, and how many bytes follow the first line of its answer: -1 where that
// tells.
func (m *memcachedClient) request(n int) (out []byte, get bool) {
	key := fmt.Sprintf("c%d:%d", m.id, m.rnd.IntN(60))
	store := func(verb string, value []byte) []byte {
		return append(fmt.Appendf(nil, "%s %s 0 0 %d\r\n", verb, key, len(value)),
			append(slices.Clone(value), "\r\n"...)...)
	}
	switch m.rnd.IntN(8) {
	case 0:
		return fmt.Appendf(nil, "get %s\r\n", key), true
	case 1:
		return store("append", fmt.Append(nil, n)), false
	case 2:
		return fmt.Appendf(nil, "delete %s\r\n", key), false
	case 3:
		return store("set", noise(m.rnd.Uint64(), 100_000)), false
	case 4:
		return store("add", fmt.Append(nil, n)), false
	default:
		return store("set", fmt.Append(nil, n)), false
	}
}

// answer reads one answer.
func (m *memcachedClient) answer(get bool) error {
	for {
		line, err := m.in.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.Contains(line, "ERROR"):
			return fmt.Errorf("memcached says %q", line)
		case !get || line == "END":
			return nil
		}
		fields := strings.Fields(line) // VALUE key flags length
		n, err := strconv.Atoi(fields[3])
		if err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, m.in, int64(n+2)); err != nil {
			return err
		}
	}
}

func (s *stand) memcachedClient(id, rounds, depth int) error {
	d := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netlab.ClientAddr(id%4,
		s.ipv6), 0))}
	c, err := s.net.Client.Dial(s.t.Context(), d, "tcp", netip.AddrPortFrom(s.production,
		memcachedProduction).String())
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	m := &memcachedClient{c: c, in: bufio.NewReader(c), rnd: rand.New(rand.NewPCG(uint64(id), 4)),
		id: id}
	for round := range rounds {
		var out bytes.Buffer
		gets := make([]bool, depth)
		for i := range depth {
			b, get := m.request(round*depth + i)
			out.Write(b)
			gets[i] = get
		}
		sent := make(chan error, 1)
		go func() {
			_, err := c.Write(out.Bytes())
			sent <- err
		}()
		for _, get := range gets {
			if err := m.answer(get); err != nil {
				return fmt.Errorf("round %d: %w", round, err)
			}
		}
		if err := <-sent; err != nil {
			return err
		}
	}
	return nil
}

// memcachedDump is every key of a memcached with its value, sorted.
func memcachedDump(t testing.TB, host *netlab.Namespace, port uint16) []string {
	t.Helper()
	c, err := host.Dial(t.Context(), nil, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(c)
	var keys []string
	io.WriteString(c, "lru_crawler metadump all\r\n")
	for {
		line, err := in.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "BUSY") || strings.HasPrefix(line,
			"CLIENT_ERROR") {
			t.Fatalf("list the keys of memcached: %v %q", err, line)
		}
		if strings.HasPrefix(line, "END") {
			break
		}
		key, _, _ := strings.Cut(strings.TrimPrefix(line, "key="), " ")
		keys = append(keys, strings.ReplaceAll(key, "%3A", ":"))
	}
	var all []string
	for _, key := range keys {
		fmt.Fprintf(c, "get %s\r\n", key)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if line == "END\r\n" {
				break
			}
			n, err := strconv.Atoi(strings.Fields(line)[3])
			if err != nil {
				t.Fatal(err)
			}
			value := make([]byte, n+2)
			if _, err := io.ReadFull(in, value); err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprintf("%s=%x", key, value))
		}
	}
	slices.Sort(all)
	return all
}

func TestMemcached(t *testing.T) {
	t.Parallel()
	for i, test := range []struct {
		name                   string
		ipv6                   bool
		clients, rounds, depth int
	}{
		{"one command at a time", false, 20, 100, 1},
		{"eight at a time", false, 20, 20, 8},
		{"one command at a time, IPv6", true, 10, 50, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			inTurn(t, i, func(t *testing.T, way string) {
				t.Parallel()
				s := newStand(t, setting{way: way, ipv6: test.ipv6})
				startMemcached(t, s.net.Production, memcachedProduction)
				startMemcached(t, s.net.Target, memcachedTarget)
				c := s.copy("-x", s.mapping(memcachedProduction, memcachedTarget))
				var all sync.WaitGroup
				for i := range test.clients {
					all.Go(func() {
						if err := s.memcachedClient(i, test.rounds, test.depth); err != nil {
							t.Errorf("client %d: %v", i, err)
						}
					})
				}
				all.Wait()
				report := c.end() // which waits until what was captured has arrived
				production := memcachedDump(t, s.net.Production, memcachedProduction)
				target := memcachedDump(t, s.net.Target, memcachedTarget)
				expectSame(t, "keys with their values", target, production)
				if len(production) == 0 {
					t.Error("production has no keys")
				}
				expectComplete(t, report, test.clients, int64(report.Bytes.Captured))
			})
		})
	}
}
