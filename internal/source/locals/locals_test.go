package locals_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tcpcopy/internal/source/locals"
	"tcpcopy/internal/test/testnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAddressesComeAndGo(t *testing.T) {
	testnet.Enter(t)
	testnet.Veth(t, "a", "10.8.0.1/24", nil, "b", "fd08::1/64")
	s, err := locals.Watch()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, tt := range []struct {
		addr string
		want bool
	}{
		{"10.8.0.1", true}, {"::ffff:10.8.0.1", true}, {"10.8.0.2", false}, {"10.8.0.255", false},
		{"fd08::1", true}, {"fd08::1%b", true}, {"fd08::2", false},
		{"127.0.0.1", true}, {"127.200.0.1", true}, {"::1", true}, {"0.0.0.0", false},
	} {
		if got := s.Has(netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("Has(%s) = %v", tt.addr, got)
		}
	}
	if !slices.Contains(s.All(), netip.MustParseAddr("10.8.0.1")) {
		t.Errorf("All: %v", s.All())
	}

	testnet.Address(t, "a", "10.8.7.7/32")
	wait(t, s, "10.8.7.7", true)
	testnet.Address(t, "b", "fd08::7/128")
	wait(t, s, "fd08::7", true)
	testnet.Delete(t, "a")
	wait(t, s, "10.8.7.7", false)
	wait(t, s, "fd08::7", false)
}

func wait(t *testing.T, s *locals.Set, addr string, want bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); <-tick.C {
		if s.Has(netip.MustParseAddr(addr)) == want {
			return
		}
	}
	t.Fatalf("Has(%s) stays %v", addr, !want)
}

func BenchmarkHas(b *testing.B) {
	s, err := locals.Watch()
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	a := netip.MustParseAddr("10.1.2.3")
	b.ReportAllocs()
	for b.Loop() {
		s.Has(a)
	}
}
