package engine

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tcpcopy/internal/config"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/source/file"
	"tcpcopy/internal/source/filter"
)

// Reading waits while any shard holds more than its share, or has too many busy sessions, and for
// no longer.
func TestReplayWaitsForRoom(t *testing.T) {
	for _, test := range []struct {
		name       string
		held, busy int64 // of the second of two shards
		bound      int64 // of busy sessions
		waits      bool
	}{
		{"room", 1000, 3, 3, false},
		{"too many bytes", 1001, 0, 3, true},
		{"too many busy sessions", 0, 4, 3, true},
		{"busy sessions at a recording's own speed", 0, 1 << 20, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				loops := []*shardLoop{newShardLoop(nil, nil, nil), newShardLoop(nil, nil, nil)}
				loops[1].heldBytes.Store(test.held)
				loops[1].busySessions.Store(test.busy)
				r := &replay{cp: &copier{shards: loops}, held: 1000, busy: test.bound}
				stop, through := make(chan struct{}), false
				go func() {
					r.wait(stop)
					through = true
				}()
				time.Sleep(time.Minute)
				synctest.Wait()
				if through == test.waits {
					t.Fatalf("went on: %v", through)
				}
				loops[1].heldBytes.Store(0)
				loops[1].busySessions.Store(0)
				time.Sleep(time.Second)
				synctest.Wait()
				if !through || (time.Duration(r.paused.Load()) >= time.Minute) != test.waits {
					t.Errorf("with room again: went on %v, after %v", through,
						time.Duration(r.paused.Load()))
				}
			})
		})
	}
}

// A replay that is told to end does not wait for room.
func TestReplayStopsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newShardLoop(nil, nil, nil)
		l.heldBytes.Store(2)
		r := &replay{cp: &copier{shards: []*shardLoop{l}}, held: 1}
		stop := make(chan struct{})
		close(stop)
		r.wait(stop)
	})
}

func TestPick(t *testing.T) {
	maps, err := mapping.Parse("80-10.0.0.2:8080,10.0.0.9:81-10.0.0.2:8081")
	if err != nil {
		t.Fatal(err)
	}
	expr, err := filter.Parse("not host 192.0.2.66")
	if err != nil {
		t.Fatal(err)
	}
	client, server := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("10.0.0.1")
	p, err := newPicker(&config.Copy{Mappings: maps, Filter: expr})
	if err != nil {
		t.Fatal(err)
	}
	pick := func(src, dst netip.Addr, from, to uint16, flags packet.Flags) file.Pick {
		b := packet.Append(nil, &packet.Segment{Src: netip.AddrPortFrom(src, from),
			Dst: netip.AddrPortFrom(dst, to), Flags: flags})
		return p.pick(b, len(b))
	}
	cut := packet.Append(nil, &packet.Segment{Src: netip.AddrPortFrom(client, 40000),
		Dst: netip.AddrPortFrom(server, 80)})[:20]
	for _, e := range []struct {
		got, want file.Pick
		what      string
	}{
		{pick(client, server, 40000, 81, packet.SYN), file.Skip, "another address's port 81"},
		{pick(server, client, 6379, 40001, packet.ACK), file.Skip,
			"a server that no mapping names"},
		{pick(client, server, 40002, 50000, packet.SYN), file.Skip, "and one with a high port"},
		{pick(client, server, 40000, 80, packet.SYN), file.Opens, "a SYN to the server"},
		{pick(client, server, 40000, 80, packet.ACK), file.Keep, "the client's next"},
		{pick(server, client, 80, 40000, packet.SYN|packet.ACK), file.Keep, "the server's"},
		{pick(client, netip.MustParseAddr("10.0.0.9"), 40000, 81, packet.SYN), file.Opens,
			"a SYN to the named server"},
		{pick(netip.MustParseAddr("192.0.2.66"), server, 40000, 80, packet.SYN), file.Skip,
			"what the filter leaves out"},
		{pick(client, server, 40000, 9999, packet.SYN), file.Skip,
			"another port, once ours were seen"},
		{p.pick(cut, 40), file.Keep, "what the classifier counts as malformed"},
	} {
		if e.got != e.want {
			t.Errorf("%s: %v, wanted %v", e.what, e.got, e.want)
		}
	}
	if got := p.seen(); !slices.Equal(got, []uint16{81, 6379, 50000}) {
		t.Errorf("ports %v", got)
	}
	for port := range uint16(60000) { // however many there are
		p.note(&packet.Segment{Dst: netip.AddrPortFrom(server, port), Flags: packet.SYN})
	}
	if len(p.ports) > maxPorts {
		t.Errorf("%d ports are remembered", len(p.ports))
	}
}
