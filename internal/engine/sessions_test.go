package engine

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/core/shard"
)

// found asks a run for sessions.
func (r *trial) found(q shard.Query) *export.Sessions {
	r.Helper()
	to := make(chan *export.Sessions, 1)
	select {
	case r.look <- &AskedSessions{Query: q, To: to}:
	case <-r.ended:
		r.Fatal("the run has ended")
	}
	return <-to
}

// The sessions of all shards are found, and the run goes on meanwhile and ends as usual.
func TestSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := begin(t)
		const conns = 40
		for i := range conns {
			from := netip.AddrPortFrom(client.Addr(), uint16(41000+i))
			r.request(from, production, "GET / HTTP/1.1\r\n\r\n")
			r.pass(10 * time.Millisecond)
		}
		all := r.found(shard.Query{Order: shard.ByClient, Most: export.MaxSessions})
		if all.Live != conns || all.Looked != conns || all.Matched != conns ||
			len(all.First) != conns {
			t.Fatalf("%d live, looked at %d, matched %d: %d", all.Live, all.Looked, all.Matched,
				len(all.First))
		}
		for i, s := range all.First {
			if want := fmt.Sprintf("192.0.2.7:%d", 41000+i); s.Client != want ||
				s.Target != target.String() || s.Production != production.String() ||
				s.Phase != "flowing/whole" || s.WaitsFor != "client" {
				t.Errorf("%d: %+v, want %s", i, s, want)
			}
		}
		newest := r.found(shard.Query{Order: shard.ByWait, Most: export.MaxSessions})
		if len(newest.First) != conns || newest.First[0].Client != "192.0.2.7:41039" {
			t.Errorf("the one that was last heard: %+v", newest.First[0])
		}
		one := r.found(shard.Query{Most: export.MaxSessions, Port: 41003})
		if one.Looked != conns || one.Matched != 1 || one.First[0].Client != "192.0.2.7:41003" {
			t.Errorf("one port: %+v", one)
		}
		close(r.stop)
		r.end()
	})
}
