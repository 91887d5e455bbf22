package e2e

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"tcpcopy/internal/lab/netlab"
)

// redisRelayed is where the relay before the target's Redis listens.
const redisRelayed = 6381

// redisAsk asks a Redis aside from the traffic. password may be empty.
func (s *stand) redisAsk(host *netlab.Namespace, port uint16, password string,
	words ...string) string {
	s.t.Helper()
	args := []string{"-s", s.redisSocket(port)}
	if password != "" {
		args = append(args, "-a", password, "--no-auth-warning")
	}
	return s.redisCLI(host, "", append(args, words...)...)
}

// redisBenchmark runs redis-benchmark on the client's host, with so many commands at once.
func (s *stand) redisBenchmark(depth int) {
	s.t.Helper()
	out, err := s.net.Client.Command(s.t.Context(), find(s.t, "redis-benchmark"), "-h",
		s.production.String(), "-p", fmt.Sprint(redisProduction),
		"-q", "-n", "1000", "-c", "10", "-r", "500", "-P", fmt.Sprint(depth), "-t",
		"set,get,incr,lpush,sadd,hset,mset").CombinedOutput()
	if err != nil {
		s.t.Fatalf("redis-benchmark: %v\n%s", err, out)
	}
}

// redisDial connects to production's Redis.
func (s *stand) redisDial(client int) *client {
	s.t.Helper()
	return dial(s.t, s.net.Client, netlab.ClientAddr(client%4, s.ipv6),
		netip.AddrPortFrom(s.production, redisProduction))
}

// say sends commands, separated by semicolons, at once, and awaits so many answers; none may be an
// error.
func (c *client) say(t testing.TB, commands string, answers int) {
	t.Helper()
	var out bytes.Buffer
	for line := range strings.SplitSeq(commands, ";") {
		out.Write(command(strings.Fields(line)...))
	}
	if _, err := c.Write(out.Bytes()); err != nil {
		t.Error(err)
		return
	}
	for range answers {
		if err := skipAnswer(c.in); err != nil {
			t.Errorf("%.60s: %v", commands, err)
			return
		}
	}
}

// redisPush is clients to whom the server speaks unasked, or not at all, or late.
func (s *stand) redisPush() {
	subscriber, publisher, monitor := s.redisDial(0), s.redisDial(1), s.redisDial(2)
	blocked, silent := s.redisDial(3), s.redisDial(0)
	monitor.say(s.t, "MONITOR", 1)
	subscriber.say(s.t, "SUBSCRIBE a b", 2)
	for i := range 20 {
		publisher.say(s.t, fmt.Sprintf("PUBLISH a %d", i), 1)
	}
	publisher.say(s.t, "CLIENT ID", 1)
	subscriber.say(s.t, "PING", 21) // the messages, and the answer
	subscriber.say(s.t, "UNSUBSCRIBE", 2)
	subscriber.say(s.t, "SET subscriber done", 1)
	silent.say(s.t, "CLIENT REPLY OFF;SET silent:1 1;CLIENT REPLY ON;CLIENT REPLY SKIP;SET "+
		"silent:2 1;GET silent:2", 2)
	silent.say(s.t, "SET silent:3 1", 1)
	blocked.say(s.t, "DEL queue", 1)
	var all sync.WaitGroup
	all.Go(func() { blocked.say(s.t, "BLPOP queue 10", 1) })
	within(patience, func() bool {
		return strings.Contains(s.redisAsk(s.net.Production, redisProduction, "", "INFO",
			"clients"), "blocked_clients:1")
	})
	publisher.say(s.t, "RPUSH queue x", 1)
	all.Wait()
	blocked.say(s.t, "SET blocked done", 1)
	for _, c := range []*client{subscriber, publisher, blocked, silent} {
		if err := c.finish(); err != nil {
			s.t.Error(err)
		}
	}
	monitor.Close()
}

// redisLogins is clients that log in, in all the ways that there are, and say what is denied.
func (s *stand) redisLogins() (denied int) {
	for i, login := range []string{"AUTH old", "AUTH default old",
		"HELLO 2 AUTH default old SETNAME me"} {
		c := s.redisDial(i)
		c.say(s.t, login, 1)
		c.say(s.t, fmt.Sprintf("SET login:%d 1;setex gone:1 100 x;INCR login:%d", i, i), 3)
		c.say(s.t, fmt.Sprintf("MULTI;SETEX gone:2 100 x;APPEND login:%d y;EXEC", i), 4)
		c.say(s.t, "SETEX gone:3 100 x", 1)
		c.say(s.t, "RESET", 1)
		c.say(s.t, login, 1)
		c.say(s.t, fmt.Sprintf("APPEND login:%d again", i), 1)
		if err := c.finish(); err != nil {
			s.t.Error(err)
		}
		denied += 3
	}
	return denied
}

// TestRedisProtocol copies to a Redis whose answers are longer and come in parts. No command may
// arrive before its turn, and both servers must have the same data. Then some commands are left
// out, and passwords differ.
func TestRedisProtocol(t *testing.T) {
	t.Parallel()
	someWays(t, only(tunnel), func(t *testing.T, way string) {
		t.Parallel()
		s := newStand(t, setting{way: way})
		s.startRedis(s.net.Production, redisProduction)
		s.startRedis(s.net.Target, redisTarget)
		relay := startRedisRelay(t, s.net.Target, redisRelayed, redisTarget)
		compare := func(what, old, new string) {
			t.Helper()
			production := s.redisAsk(s.net.Production, redisProduction, old, "DEBUG", "DIGEST")
			if !within(patience, func() bool {
				return s.redisAsk(s.net.Target, redisTarget, new,
					"DEBUG", "DIGEST") == production
			}) {
				t.Errorf("%s: the target has other data than production", what)
			}
		}

		c := s.copy("-x", s.mapping(redisProduction, redisRelayed))
		s.redisLoad(4, 40, 1, 20_000)
		s.redisBenchmark(1)
		compare("one command at a time", "", "")
		if n := relay.early.Load(); n > 0 {
			t.Errorf("%d of %d commands came before the one before was answered", n,
				relay.commands.Load())
		}
		s.redisBenchmark(16)
		s.redisPush()
		compare("pipelines and pushes", "", "")
		report := c.end()
		if p := report.Protocol; p.Lost > 0 || p.Sent == 0 || report.Gate.Forced > 0 {
			t.Errorf("the account: %+v, %+v, wanted nothing lost, and nothing forced", p,
				report.Gate)
		}

		s.redisAsk(s.net.Production, redisProduction, "", "CONFIG", "SET", "requirepass", "old")
		s.redisAsk(s.net.Target, redisTarget, "", "CONFIG", "SET", "requirepass", "new")
		writeFile(t, s.file("login"), []byte(":new\n"))
		c = s.copy("-x", s.mapping(redisProduction, redisRelayed), "--redis-deny", "SETEX,FLUSHALL",
			"--redis-auth-file", s.file("login"))
		n := s.redisLogins()
		s.redisAsk(s.net.Production, redisProduction, "old", "DEL", "gone:1", "gone:2", "gone:3")
		compare("commands denied", "old", "new")
		report = c.end()
		if p := report.Protocol; p.Dropped["denied"] != uint64(n) || p.Lost > 0 || p.Failed > 0 ||
			p.Rewritten == 0 {
			t.Errorf("the account: %+v, wanted %d commands dropped, and no failure", p, n)
		}
	})
}
