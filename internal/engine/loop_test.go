package engine

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tcpcopy/internal/account/verdict"
	"tcpcopy/internal/config"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/source"
)

func TestClassify(t *testing.T) {
	other := netip.MustParseAddrPort("10.0.0.9:80")
	for _, tc := range []struct {
		name     string
		from, to netip.AddrPort
		named    bool // the mapping names the production address, and it is not this host's
		frame    source.Frame
		want     bool
		server   bool
	}{
		{"a client's packet that comes in", client, production, false, source.Frame{}, true, false},
		{"the server's that goes out", production, client, false, source.Frame{Outgoing: true},
			true, true},
		{"to another host, seen on a bridge", client, other, false, source.Frame{}, false, false},
		{"our own connection to another host's port 80", netip.MustParseAddrPort("10.0.0.1:45000"),
			other, false, source.Frame{Outgoing: true}, false, false},
		{"loopback, on its way out", client, production, false,
			source.Frame{Outgoing: true, Loopback: true}, false, false},
		{"loopback, on its way in", client, production, false, source.Frame{Loopback: true}, true,
			false},
		{"loopback, the answer on its way in", production, client, false,
			source.Frame{Loopback: true}, false, false},
		{"to the address that the mapping names, forwarded in", client, other, true,
			source.Frame{}, true, false},
		{"to the address that the mapping names, forwarded out", client, other, true,
			source.Frame{Outgoing: true}, true, false},
		{"from the address that the mapping names", other, client, true, source.Frame{}, true,
			true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rule := "80-10.0.0.2:8080"
			if tc.named {
				rule = "10.0.0.9:80-10.0.0.2:8080"
			}
			maps, err := mapping.Parse(rule)
			if err != nil {
				t.Fatal(err)
			}
			k, err := newServed(&config.Copy{}, maps)
			if err != nil {
				t.Fatal(err)
			}
			k.named[0] = tc.named
			c := classifier{served: k, isLocal: func(a netip.Addr) bool {
				return a == production.Addr()
			}}
			tc.frame.Data = packet.Append(nil,
				&packet.Segment{Src: tc.from, Dst: tc.to, Flags: packet.ACK})
			tc.frame.Wire = len(tc.frame.Data)
			var p shard.Packet
			if got := c.classify(&tc.frame, &p); got != tc.want {
				t.Fatalf("taken: %v, wanted %v", got, tc.want)
			}
			if tc.want && p.FromServer != tc.server {
				t.Errorf("the server's: %v, wanted %v", p.FromServer, tc.server)
			}
		})
	}
}

// TestClassifyRemote: packets of other hosts' interfaces count by their mapping alone, but for our
// own copies.
func TestClassifyRemote(t *testing.T) {
	client, production := netip.MustParseAddrPort("192.0.2.1:1234"), netip.MustParseAddrPort(
		"198.51.100.1:80")
	target := netip.MustParseAddrPort("10.0.0.2:80")
	for _, tc := range []struct {
		name         string
		rule         string
		from, to     netip.AddrPort
		want, server bool
	}{
		{"to any host's port", "80-10.0.0.2:80", client, production, true, false},
		{"from any host's port", "80-10.0.0.2:80", production, client, true, true},
		{"to the host that is named", "198.51.100.1:80-10.0.0.2:80", client, production, true,
			false},
		{"to another", "198.51.100.9:80-10.0.0.2:80", client, production, false, false},
		{"our copy", "80-10.0.0.2:80", client, target, false, false},
		{"the answer to it", "80-10.0.0.2:80", target, client, false, false},
		{"another port", "81-10.0.0.2:80", client, production, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			maps, err := mapping.Parse(tc.rule)
			if err != nil {
				t.Fatal(err)
			}
			served, err := newServed(&config.Copy{From: config.From{Kind: config.FromMirror}}, maps)
			if err != nil {
				t.Fatal(err)
			}
			c := classifier{served: served}
			f := source.Frame{Data: packet.Append(nil,
				&packet.Segment{Src: tc.from, Dst: tc.to, Flags: packet.ACK})}
			f.Wire = len(f.Data)
			var p shard.Packet
			if got := c.classify(&f, &p); got != tc.want || got && p.FromServer != tc.server {
				t.Errorf("taken %v, the server's %v; wanted %v, %v", got, p.FromServer, tc.want,
					tc.server)
			}
		})
	}
}

// After a time without CPU the clock stands still before the missed deadline until what has come
// meanwhile had its moment.
func TestClockAfterAStall(t *testing.T) {
	const ms = mono.Time(time.Millisecond)
	now := 100 * ms
	l := &shardLoop{now: func() mono.Time { return now }, due: mono.Never, probed: mono.Never}
	expect := func(at, clock mono.Time) {
		t.Helper()
		now = at
		if got := l.clock(); got != clock {
			t.Errorf("at %v the clock says %v, wanted %v", at, got, clock)
		}
	}
	expect(100*ms, 100*ms)
	l.due = 110 * ms
	expect(105*ms, 105*ms)   // early: something came
	expect(112*ms, 112*ms)   // on time, nearly
	expect(160*ms, 110*ms-1) // 50 ms late
	expect(161*ms, 110*ms-1)
	if got := l.wait(); got != 2*time.Millisecond {
		t.Errorf("waits for %v, wanted 2ms", got)
	}
	expect(163*ms, 163*ms)
}

// While there is traffic a loop wakes now and then, and counts how late it does.
func TestStoodStill(t *testing.T) {
	const ms = time.Millisecond
	for _, tc := range []struct {
		name             string
		active, more     bool
		due, woke, waits time.Duration // due 0: nothing is
		stood            time.Duration
	}{
		{"nothing is due, nothing happens", false, false, 0, 10 * ms, time.Hour, 0},
		{"traffic", true, false, 0, 50 * ms, beat, 0},
		{"traffic, and something came", true, false, 0, 2 * ms, beat, 0},
		{"a little late", true, false, 0, 54 * ms, beat, 0},
		{"stopped in traffic", true, false, 0, 250 * ms, beat, 200 * ms},
		{"stopped while something was due", false, false, 20 * ms, 250 * ms, 20 * ms, 230 * ms},
		{"due before the beat", true, false, 20 * ms, 21 * ms, 20 * ms, 0},
		{"much to do", true, true, 20 * ms, 250 * ms, 20 * ms, 0},
	} {
		now := mono.Time(time.Second)
		l := &shardLoop{now: func() mono.Time { return now }, due: mono.Never,
			probed: mono.Never, more: tc.more}
		if tc.active {
			l.quiet = now.Add(beat)
		}
		if tc.due > 0 {
			l.due = now.Add(tc.due)
		}
		waits := l.wait()
		now = now.Add(tc.woke)
		l.woke(false)
		if stood := time.Duration(l.stood.Load()); waits != tc.waits || stood != tc.stood {
			t.Errorf("%s: waits for %v and stood still for %v, wanted %v and %v", tc.name, waits,
				stood, tc.waits, tc.stood)
		}
	}
}

// A loop whose answers are compared sees how late it wakes, while there is traffic.
func TestProbe(t *testing.T) {
	const ms = time.Millisecond
	now := mono.Time(time.Second)
	l := &shardLoop{now: func() mono.Time { return now }, due: mono.Never, probed: mono.Never,
		tally: verdict.NewTally(&proto.Digesting{}, &verdict.Rules{}, verdict.ManyBases)}
	for _, step := range []struct {
		name        string
		waits, woke time.Duration
		happened    bool
		probes      uint32 // so far
	}{
		{"no traffic", time.Hour, 20 * ms, true, 0},
		{"traffic", probe, 4 * ms, true, 0},
		{"and more, before the probe", probe - 4*ms, 3 * ms, true, 0},
		{"the probe", probe - 7*ms, 4 * ms, false, 1},
		{"something comes late", probe, probe + ms, true, 2},
		{"quiet", probe, probe, false, 3},
		{"quiet", probe, 45 * ms, false, 4},
		{"too late to be of the traffic", time.Hour, time.Hour, false, 4},
	} {
		waits := l.wait()
		now = now.Add(step.woke)
		l.woke(step.happened)
		var n uint32
		var a verdict.Account
		for at := (&verdict.Look{}); !l.tally.Look(&a, at, true); {
		}
		if times := a.Result(&verdict.Rules{}).Times; times != nil {
			for _, b := range times.Blocks {
				for _, c := range b.Late {
					n += c[1]
				}
			}
		}
		if waits != step.waits || n != step.probes {
			t.Errorf("%s: waits for %v, %d probes; wanted %v, %d", step.name, waits, n, step.waits,
				step.probes)
		}
	}
}

// A burst is read as it comes, however long sending takes: it waits in the sessions' records, not
// in the ring.
func TestABurstWaitsInRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const batches, each = 200, 10
		r := begin(t, func(r *trial) {
			r.config.Shards, r.config.Memory, r.config.SessionMemory = 1, 512<<20, 256<<20
			r.way.sends = 20 * time.Millisecond
		})
		r.way.ends[0].discard = true
		r.request(client, production, "begin")
		seq, payload := seqnum.Value(106), strings.Repeat("x", 50_000)
		begun := r.now()
		for range batches {
			var frames []source.Frame
			for range each {
				frames = append(frames, r.frame(client, production, seq, 501, packet.ACK, payload))
				seq = seq.Add(len(payload))
			}
			r.source.batches <- frames
		}
		synctest.Wait()
		// One sending after another would take 4 s.
		if took := r.now().Sub(begun); took > time.Second {
			t.Errorf("100 MB were read in %v, wanted at most a second", took)
		}
		r.pass(2 * time.Second)
		want := uint64(5 + batches*each*len(payload))
		close(r.stop)
		if s := r.end(); s.Counters.Bytes.Delivered != want {
			t.Errorf("%d bytes delivered, wanted %d", s.Counters.Bytes.Delivered, want)
		}
	})
}

// A step advances fewer sessions after one that has taken long, and more while there are more.
func TestLimitOfAStep(t *testing.T) {
	const ms = time.Millisecond
	l := &shardLoop{limit: maxLimit, more: true}
	for _, s := range []struct {
		took time.Duration
		more bool
		want int
	}{
		{3 * ms, true, 512}, {20 * ms, true, 256}, {2 * ms, true, 256}, {ms, true, 256},
		{ms / 2, false, 256}, {ms / 2, true, 512}, {ms / 2, true, 1024}, {ms / 2, true, 1024},
	} {
		l.more = s.more
		if l.adjust(s.took); l.limit != s.want {
			t.Errorf("after %v the limit is %d, wanted %d", s.took, l.limit, s.want)
		}
	}
	for range 20 {
		l.adjust(time.Second)
	}
	if l.limit != minLimit {
		t.Errorf("the limit is %d, wanted at least %d", l.limit, minLimit)
	}
}
