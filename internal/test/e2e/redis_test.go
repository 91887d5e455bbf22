package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tcpcopy/internal/lab/netlab"
)

// redisProduction and redisTarget are the ports of the two.
const (
	redisProduction = 6379
	redisTarget     = 6380
)

// startRedis starts a Redis that keeps everything in memory.
func (s *stand) startRedis(host *netlab.Namespace, port uint16) *process {
	s.t.Helper()
	p := start(s.t, host, "redis", find(s.t, "redis-server"), "--port", fmt.Sprint(port),
		"--bind", "0.0.0.0", "::", "--protected-mode", "no", "--unixsocket", s.redisSocket(port),
		"--save", "", "--appendonly", "no", "--enable-debug-command", "yes",
		"--dir", s.t.TempDir())
	p.awaitOutput("Ready to accept connections")
	return p
}

// redisSocket is where the Redis of a port can be asked without a packet that could be copied.
func (s *stand) redisSocket(port uint16) string {
	if s.sockets[port] == "" {
		if s.sockets == nil {
			s.sockets = make(map[uint16]string)
		}
		s.sockets[port] = shortPath(s.t)
	}
	return s.sockets[port]
}

// redisCLI runs redis-cli on a host and returns what it says.
func (s *stand) redisCLI(host *netlab.Namespace, stdin string, args ...string) string {
	s.t.Helper()
	cmd := host.Command(s.t.Context(), find(s.t, "redis-cli"), args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("redis-cli %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// command is one Redis command as clients send it.
func command(words ...string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(words))
	for _, w := range words {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(w), w)
	}
	return b
}

// skipAnswer reads one answer of Redis, and fails where it is an error.
func skipAnswer(r *bufio.Reader) error {
	line, err := r.ReadString('\n')
	if err != nil {
		return err
	}
	line = strings.TrimRight(line, "\r\n")
	switch line[0] {
	case '-':
		return errors.New(line)
	case '$':
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 {
			return err
		}
		_, err = io.CopyN(io.Discard, r, int64(n+2))
		return err
	case '*':
		n, err := strconv.Atoi(line[1:])
		for ; err == nil && n > 0; n-- {
			err = skipAnswer(r)
		}
		return err
	}
	return nil
}

// redisWords is the words of a client's n-th command, with values of up to large bytes. Clients
// write to keys of their own, or in ways whose order does not matter: between connections there is
// none.
func redisWords(r *rand.Rand, client, n, large int) []string {
	key := func() string { return fmt.Sprintf("c%d:%d", client, r.IntN(50)) }
	switch r.IntN(10) {
	case 0:
		return []string{"GET", key()}
	case 1:
		return []string{"INCRBY", "all", strconv.Itoa(r.IntN(100))}
	case 2:
		return []string{"SADD", "everybody", fmt.Sprintf("%d", r.IntN(1000))}
	case 3:
		return []string{"APPEND", key(), fmt.Sprint(n)}
	case 4:
		return []string{"RPUSH", fmt.Sprintf("list%d", client), fmt.Sprint(n)}
	case 5:
		return []string{"HSET", fmt.Sprintf("hash%d", client), fmt.Sprint(r.IntN(20)),
			fmt.Sprint(n)}
	case 6:
		return []string{"DEL", key()}
	case 7:
		return []string{"SET", key(), string(noise(r.Uint64(), large))}
	default:
		return []string{"SET", key(), fmt.Sprint(n)}
	}
}

// redisClient sends batches of depth commands at once, and awaits the answers of each batch.
func (s *stand) redisClient(client, batches, depth, large int) error {
	rnd := rand.New(rand.NewPCG(uint64(client), 3))
	from := netip.AddrPortFrom(netlab.ClientAddr(client%4, s.ipv6), 0)
	d := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from)}
	c, err := s.net.Client.Dial(s.t.Context(), d, "tcp", netip.AddrPortFrom(s.production,
		redisProduction).String())
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	answers := bufio.NewReader(c)
	for b := range batches {
		var out bytes.Buffer
		for i := range depth {
			out.Write(command(redisWords(rnd, client, b*depth+i, large)...))
		}
		sent := make(chan error, 1)
		go func() { // while answers are read: both sides' buffers are smaller than a batch can be
			_, err := c.Write(out.Bytes())
			sent <- err
		}()
		for range depth {
			if err := skipAnswer(answers); err != nil {
				return err
			}
		}
		if err := <-sent; err != nil {
			return err
		}
	}
	return nil
}

func (s *stand) redisLoad(clients, batches, depth, large int) {
	s.t.Helper()
	var all sync.WaitGroup
	failed := make(chan error, clients)
	for i := range clients {
		all.Go(func() {
			if err := s.redisClient(i, batches, depth, large); err != nil {
				failed <- fmt.Errorf("client %d: %w", i, err)
			}
		})
	}
	all.Wait()
	close(failed)
	for err := range failed {
		s.t.Error(err)
	}
}

// redisScript is redis-cli's part of the load: one command after another on one connection, a
// transaction, a script, and the mass insertion that waits for nothing.
func (s *stand) redisScript() {
	s.t.Helper()
	production := []string{"-h", s.production.String(), "-p", fmt.Sprint(redisProduction)}
	s.redisCLI(s.net.Client,
		"SET cli:a 1\nMULTI\nINCR cli:a\nLPUSH cli:b x y z\nEXEC\nEVAL \"return "+
			"redis.call('set','cli:script','lua')\" 0\nKEYS cli:*\n", production...)
	var mass bytes.Buffer
	for i := range 5000 {
		mass.Write(command("SET", fmt.Sprintf("mass:%d", i), fmt.Sprint(i*i)))
	}
	s.redisCLI(s.net.Client, mass.String(), append(production, "--pipe")...)
}

func TestRedis(t *testing.T) {
	t.Parallel()
	for i, test := range []struct {
		name string
		ipv6 bool
		load func(s *stand)
	}{
		{"redis-cli", false, (*stand).redisScript},
		{"one command at a time", false, func(s *stand) { s.redisLoad(20, 100, 1, 100_000) }},
		{"pipelined", false, func(s *stand) { s.redisLoad(20, 50, 16, 500) }},
		{"pipelined, IPv6", true, func(s *stand) { s.redisLoad(10, 50, 16, 500) }},
		// Batches that neither side's buffers hold: production answers while clients still
		// write.
		{"pipelined, 100 KB values", false, func(s *stand) { s.redisLoad(10, 5, 16, 100_000) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			inTurn(t, i, func(t *testing.T, way string) {
				t.Parallel()
				s := newStand(t, setting{way: way, ipv6: test.ipv6})
				s.startRedis(s.net.Production, redisProduction)
				s.startRedis(s.net.Target, redisTarget)
				c := s.copy("-x", s.mapping(redisProduction, redisTarget))
				test.load(s)
				ask := func(host *netlab.Namespace, port uint16, words ...string) string {
					return s.redisCLI(host, "", append([]string{"-s", s.redisSocket(port)},
						words...)...)
				}
				digests := func() (production, target string) {
					return ask(s.net.Production, redisProduction, "DEBUG",
						"DIGEST"), ask(s.net.Target, redisTarget, "DEBUG", "DIGEST")
				}
				within(2*patience, func() bool {
					production,
						target := digests()
					return production == target
				})
				report := c.end()
				if production, target := digests(); production != target || strings.Trim(production,
					"0") == "" {
					t.Errorf("the target's data has the digest %s, production's %s", target,
						production)
				}
				if production, target := ask(s.net.Production, redisProduction,
					"DBSIZE"), ask(s.net.Target, redisTarget, "DBSIZE"); production != target {
					t.Errorf("%s keys at the target, %s at production", target, production)
				}
				expectComplete(t, report, int(report.Sessions.Captured),
					int64(report.Bytes.Captured))
			})
		})
	}
}
