package socket

import (
	"fmt"
	"math"
	"net/netip"
	"os"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/way"
)

// Way is the socket way: way.Way with an Output for each shard.
type Way struct {
	host     *way.Host
	settings *way.Settings
	outputs  []*Output
}

// NewWay returns the socket way.
func NewWay() way.Way { return &Way{} }

// Name implements way.Way.
func (w *Way) Name() string { return "socket" }

// Open implements way.Way.
func (w *Way) Open(h *way.Host, s *way.Settings, targets []way.Target) error {
	w.host, w.settings = h, s
	return w.Check(targets, nil)
}

// Attach implements way.Way.
func (w *Way) Attach(int, int) (way.End, error) {
	s := w.settings
	cfg := Config{
		Now: w.host.Now, Mark: s.Mark, Bind: s.Bind, ConnectTimeout: s.ConnectTimeout,
		SendTimeout: s.SendTimeout, Proxy: Proxy(s.ProxyProtocol),
	}
	if w.host.Digesting != nil {
		cfg.Digesting = w.host.Digesting()
	}
	out, err := New(cfg)
	if err != nil {
		return nil, err
	}
	w.outputs = append(w.outputs, out)
	return end{out}, nil
}

// Connect implements way.Way.
func (w *Way) Connect() error { return nil }

// portRange is the file that has the range of ports from which the kernel connects.
const portRange = "/proc/sys/net/ipv4/ip_local_port_range"

// Check implements way.Way. It refuses more copies of one session than there are ports to connect
// from: the copies of a single connection would not fit.
func (w *Way) Check(targets []way.Target, _ []netip.AddrPort) error {
	text, err := os.ReadFile(portRange)
	if err != nil {
		return nil // a copy that finds no port is counted when it happens
	}
	var low, high int
	if _, err := fmt.Sscan(string(text), &low, &high); err != nil || high < low {
		return nil
	}
	for _, t := range targets {
		from := 1
		if len(w.settings.Bind) > 0 {
			from = ofFamily(w.settings.Bind, t.Addr.Addr())
		}
		if room := from * (high - low + 1); int(math.Ceil(t.Copies)) > room {
			return &way.Problem{
				Flag: "-n", Value: fmt.Sprint(t.Copies),
				What: fmt.Sprintf("has more copies of one session than there are addresses and "+
					"ports "+
					"to connect to %s from: wanted at most %d", t.Addr, room),
				Hint: "more addresses of this host with --bind, or more ports in " + portRange,
			}
		}
	}
	return nil
}

// ofFamily returns how many of the addresses are of a's IP version.
func ofFamily(all []netip.Addr, a netip.Addr) (n int) {
	for _, b := range all {
		if b.Is4() == a.Is4() {
			n++
		}
	}
	return n
}

// SetTargets implements way.Way.
func (w *Way) SetTargets([]netip.AddrPort) {}

// Account implements way.Way.
func (w *Way) Account() way.Account { return way.Account{} }

// Close implements way.Way.
func (w *Way) Close() {
	for _, o := range w.outputs {
		o.Close()
	}
}

// end is an Output as a shard's end of the way.
type end struct{ out *Output }

// Open implements shard.Streams.
func (e end) Open(now mono.Time, spec *session.OpenSpec, _ shard.Copy) session.Stream {
	return e.out.Open(now, spec)
}

// Deliver implements shard.Streams. It delivers one batch of the poller's.
func (e end) Deliver(now mono.Time, _ bool) []session.Event {
	var b *Batch
	select {
	case b = <-e.out.Events():
	default:
	}
	return e.out.Step(now, b)
}

// Count implements shard.Streams.
func (e end) Count(*ledger.Counters) {}

// Wake implements way.End.
func (e end) Wake() <-chan struct{} { return e.out.poller.filled }

// Flush implements way.End: streams write at once.
func (e end) Flush(mono.Time) {}

// Pending implements shard.Streams.
func (e end) Pending() bool { return e.out.Pending() || len(e.out.Events()) > 0 }

// Detach implements way.End.
func (e end) Detach() {}
