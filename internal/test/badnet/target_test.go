package badnet

import (
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"tcpcopy/internal/lab"
	"tcpcopy/internal/lab/netlab"
)

// onTarget is a Setup that sets sysctls of the target.
func onTarget(settings ...sysctl) func(*netlab.Net) error {
	return func(n *netlab.Net) error { return set(n.Target, settings...) }
}

// TestTargetOptions takes the options of TCP away from the target, in all combinations, on a lossy
// network.
func TestTargetOptions(t *testing.T) {
	t.Parallel()
	for bits := range 8 {
		settings := []sysctl{
			{"ipv4/tcp_timestamps", fmt.Sprint(bits & 1)},
			{"ipv4/tcp_sack", fmt.Sprint(bits >> 1 & 1)},
			{"ipv4/tcp_window_scaling", fmt.Sprint(bits >> 2 & 1)},
		}
		if left(bits == 0 || bits == 5) {
			continue
		}
		t.Run(fmt.Sprintf("timestamps %s, SACK %s, window scaling %s", settings[0].value,
			settings[1].value, settings[2].value), func(t *testing.T) {
			t.Parallel()
			perfect(t, play(t, lab.Options{Via: lab.Raw, Loss: 1, Load: keepalive(20, 20, 20_000),
				Setup: onTarget(settings...)}))
		})
	}
}

// TestTarget copies to targets that make it difficult.
func TestTarget(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		short   bool
		options lab.Options
		calmer  *lab.Scenario // the load of the socket way, where it cannot be the same
	}{
		{"tiny receive windows", false, lab.Options{
			Load:  keepalive(20, 5, 100_000),
			Setup: onTarget(sysctl{"ipv4/tcp_rmem", "2304 2304 2304"}),
		}, nil},
		{"tiny receive windows and loss", true, lab.Options{
			Loss: 1, Load: keepalive(20, 4, 20_000),
			Setup: onTarget(sysctl{"ipv4/tcp_rmem", "2304 2304 2304"}),
		}, nil},
		{"SYN cookies always", false, lab.Options{
			Loss: 1, Load: short(300, 20, 3000),
			Setup: onTarget(sysctl{"ipv4/tcp_syncookies", "2"}),
		}, nil},
		{"SYN cookies without timestamps", true, lab.Options{
			Loss: 1, Load: short(300, 20, 3000),
			Setup: onTarget(sysctl{"ipv4/tcp_syncookies", "2"}, sysctl{"ipv4/tcp_timestamps", "0"}),
		}, nil},
		{"full accept queue", true, lab.Options{
			Load:   short(30, 10, 300),
			Setup:  onTarget(sysctl{"core/somaxconn", "1"}),
			Accept: func(l net.Listener) net.Listener { return &slowListener{Listener: l} },
			// With more at a time the kernel's own client backs off beyond the gate's limit.
		}, short(30, 3, 300)},
		{"an application that stops reading for 10 s", false, lab.Options{
			Load: keepalive(5, 3, 500_000), TargetStall: 10 * time.Second,
		}, nil},
	} {
		if left(test.short) {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, via := range []string{lab.Raw, lab.Socket} {
				if left(via == lab.Raw) {
					continue
				}
				t.Run(via, func(t *testing.T) {
					t.Parallel()
					o := test.options
					o.Via = via
					if via == lab.Socket && test.calmer != nil {
						o.Load = test.calmer
					}
					perfect(t, play(t, o))
				})
			}
		})
	}
}

// slowListener accepts a connection now and then.
type slowListener struct{ net.Listener }

func (l *slowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	<-time.After(10 * time.Millisecond)
	return c, err
}

// rudeListener closes every third connection with bytes unread, and passes the others on.
type rudeListener struct {
	net.Listener
	n atomic.Int64
}

func (l *rudeListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || l.n.Add(1)%3 != 0 {
			return c, err
		}
		go func() {
			io.ReadFull(c, make([]byte, 100)) // a part of the first request
			c.Close()
		}()
	}
}

// TestTargetClosesWithUnreadData: the connection is lost, and its reason is known; what the client
// asks afterwards finds another.
func TestTargetClosesWithUnreadData(t *testing.T) {
	t.Parallel()
	for _, via := range []string{lab.Raw, lab.Socket} {
		if left(via == lab.Raw) {
			continue
		}
		t.Run(via, func(t *testing.T) {
			t.Parallel()
			rude := &rudeListener{}
			load := keepalive(30, 20, 3000)
			r := play(t, lab.Options{Via: via, Load: load,
				Accept: func(l net.Listener) net.Listener {
					rude.Listener = l
					return rude
				}, Disturb: undisturbed})
			a := r.Report
			if a == nil {
				t.Fatal(r.ReportError)
			}
			// One request is lost with each of the connections that were closed, and now and then
			// the one after it, which had been sent when the reset came.
			closed := rude.n.Load() / 3
			if r.Comparison.Missing < closed || r.Comparison.Missing > 2*closed {
				t.Errorf("%d requests are missing for %d connections that were closed",
					r.Comparison.Missing, closed)
			}
			if r.Target.Duplicated+r.Target.Reordered+r.Target.Early > 0 {
				t.Errorf("duplicated, reordered, early: %+v", r.Target)
			}
			lost := a.Sessions.Dropped["target_reset"] + a.Sessions.Dropped["target_closed"]
			if int64(lost) < closed || len(a.Sessions.Dropped) > 2 {
				t.Errorf("%d connections were closed, and the account says %+v", closed, a.Sessions)
			}
			if !a.Balanced || a.Sessions.InFlight+a.Bytes.InFlight > 0 {
				t.Errorf("the account: %+v", *a)
			}
		})
	}
}
