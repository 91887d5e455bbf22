package localroute

import (
	"net/netip"
	"testing"

	"tcpcopy/internal/test/testnet"
)

// TestWhoMayBeAClient: addresses that mean this host, or more than one, are no clients'.
func TestWhoMayBeAClient(t *testing.T) {
	testnet.Enter(t)
	testnet.Address(t, "lo", "10.77.2.2/24")
	testnet.Address(t, "lo", "fd77:2::2/64")
	h, err := Stand(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Leave()
	for a, want := range map[string][2]bool{ // client, own
		"203.0.113.9":        {true, false},
		"10.77.2.7":          {true, false}, // on the same network
		"::ffff:203.0.113.9": {true, false},
		"10.77.2.2":          {false, true},
		"::ffff:10.77.2.2":   {false, true},
		"10.77.2.255":        {false, false},
		"::ffff:10.77.2.255": {false, false},
		"127.0.0.1":          {false, true},
		"127.9.9.9":          {false, true},
		"::ffff:127.0.0.1":   {false, true},
		"0.0.0.0":            {false, false},
		"0.1.2.3":            {false, false},
		"::ffff:0.0.0.0":     {false, false},
		"255.255.255.255":    {false, false},
		"224.0.0.1":          {false, false},
		"fd00::9":            {true, false},
		"fd77:2::2":          {false, true},
		"::1":                {false, true},
		"::":                 {false, false},
		"fe80::1":            {false, false},
		"fe80::1%lo":         {false, false},
		"ff02::1":            {false, false},
		"fd77:2::2%lo":       {false, true},
		"::1%lo":             {false, true},
	} {
		addr := netip.MustParseAddr(a)
		if got := [2]bool{h.Client(addr), h.Owns(addr)}; got != want {
			t.Errorf("%s: client %v, own %v, want %v, %v", a, got[0], got[1], want[0], want[1])
		}
	}
	if (*Host).Client(h, netip.Addr{}) || h.Owns(netip.Addr{}) {
		t.Error("no address is one")
	}
}
