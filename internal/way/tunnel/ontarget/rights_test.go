package ontarget

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/link/wire"
)

// holderOf returns whose key of a ring a copier with the key has proved.
func holderOf(t *testing.T, ring *key.Ring, text string) *key.Holder {
	t.Helper()
	k, err := key.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(key.ClientTLS(k).Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	h := ring.Holder(tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}})
	if h == nil {
		t.Fatal("the key is not in the ring")
	}
	return h
}

// TestRightsOfKeys opens streams for the holder of a key, and again when its bounds have changed:
// they hold for the next stream of a connection that exists.
func TestRightsOfKeys(t *testing.T) {
	target, _ := server(t)
	dir, text := t.TempDir(), key.Generate()
	bound := func(bounds string) {
		err := os.WriteFile(filepath.Join(dir, "alice"), []byte(text+"\n"+bounds+"\n"), 0o600)
		if err != nil {
			t.Fatal(err)
		}
	}
	bound("")
	ring, _, err := key.LoadRing(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	holder := holderOf(t, ring, text)
	l := New(Config{Allow: every, Routes: loopback{}, Now: now})
	c := attachAs(t, l, 1, holder, 0)
	for i, tc := range []struct {
		bounds string
		want   ledger.Reason
	}{
		{"", ledger.None},
		{"ports 1", ledger.TargetForbidden},
		{fmt.Sprintf("ports 1,%d", target.Port()), ledger.None},
		{"clients 192.0.2.0/24, 2001:db8::/32", ledger.BadClientAddress},
		{"clients 127.0.0.0/8", ledger.None},
	} {
		bound(tc.bounds)
		if _, _, err := ring.Reload(); err != nil {
			t.Fatal(err)
		}
		id := uint64(i + 1)
		c.must(wire.Op{Kind: wire.OpOpen, ID: id, Target: target,
			Client: netip.MustParseAddrPort(fmt.Sprintf("127.0.9.9:%d", 20000+i))})
		if tc.want == ledger.None {
			c.await(id, wire.EventOpened, 0)
		} else if ev := c.await(id, wire.EventFailed, 0); ev.Reason != tc.want {
			t.Errorf("%q: failed for %v, want %v", tc.bounds, ev.Reason, tc.want)
		}
		if l.Serves(holder, target) != (tc.want != ledger.TargetForbidden) {
			t.Errorf("%q: serves %v", tc.bounds, l.Serves(holder, target))
		}
	}
	bound("may read")
	if _, _, err := ring.Reload(); err != nil {
		t.Fatal(err)
	}
	if holder.Valid().Err() == nil {
		t.Error("the key may not open connections any more, and is still valid for some")
	}
	if l.Serves(holderOf(t, ring, text), target) {
		t.Error("a key that may read answers opens connections")
	}
}
