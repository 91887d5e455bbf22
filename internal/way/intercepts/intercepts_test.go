package intercepts

import (
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/way"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/wire"
)

func TestCheckAddresses(t *testing.T) {
	local := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}
	targets := []way.Target{{Addr: netip.MustParseAddrPort("10.0.0.2:8080"), Copies: 1}}
	for _, test := range []struct{ clients, localhost, want string }{
		{"10.1.0.0/24", "", ""},
		{"10.0.0.7", "10.0.0.8", ""},
		{"10.0.0.1", "", `-c "10.0.0.1"`},
		{"fd00::/120", "", `-c "fd00::1"`},
		{"10.0.0.2", "", `-c "10.0.0.2"`},
		{"", "10.0.0.1", `-H "10.0.0.1"`},
		{"", "", ""},
	} {
		s := &way.Settings{}
		if test.clients != "" {
			p, err := mapping.ParsePool(test.clients)
			if err != nil {
				t.Fatal(err)
			}
			s.Clients = &p
		}
		if test.localhost != "" {
			s.LocalhostAs = netip.MustParseAddr(test.localhost)
		}
		err := CheckAddresses(s, targets, local)
		if (err == nil) != (test.want == "") ||
			err != nil && !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("-c %q -H %q: %v, wanted %q", test.clients, test.localhost, err, test.want)
		}
	}
}

// Asking an intercept for its way takes no slot from the links that come next: an intercept keeps
// the slot for the run that had it, and both are the same run.
func TestAskIsOfTheSameRun(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	met := make(chan wire.Instance, 2)
	server := link.NewServer(link.ServerConfig{
		Options: link.Options{Queue: 1 << 16}, Listeners: []net.Listener{listener},
		Hello: wire.TypeHello, Log: slog.New(slog.DiscardHandler),
		Admit: func(e *link.Endpoint, hello []byte) (func() error, *wire.Refuse) {
			var h wire.Hello
			if err := h.Decode(hello); err != nil {
				t.Error(err)
			}
			met <- h.Instance
			welcome := wire.Welcome{Version: wire.Version, Way: wire.WayRaw, Slot: h.Slot}
			e.Put(welcome.Append(nil))
			return func() error { _, err := e.Receive(); return err }, nil
		},
	})
	server.Start()
	defer server.Close()
	h := &way.Host{Context: t.Context(), Log: slog.New(slog.DiscardHandler), Run: [16]byte{1, 2, 3}}
	s := &way.Settings{}
	s.Intercepts = append(s.Intercepts, server.Addrs()[0])
	if _, err := Ask(h, s, nil); err != nil {
		t.Fatal(err)
	}
	g := link.NewGroup(Names(s), Config(h, s, nil))
	if err := Connect(h, s, g, wire.WayRaw); err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if asked, linked := <-met, <-met; asked != h.Run || linked != h.Run {
		t.Errorf("Ask is of the run %x, the link of %x; wanted both of %x", asked, linked, h.Run)
	}
}
