package badnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"tcpcopy/internal/lab"
	"tcpcopy/internal/lab/netlab"
)

// The ports of the link: copiers connect to one, where a relay passes them on to the other.
const (
	linkPort   = 36524
	behindPort = 36525
)

// linkRelay passes the link's connections on, and can break them.
type linkRelay struct {
	net      *netlab.Net
	listener net.Listener

	mu    sync.Mutex
	conns []net.Conn
	down  bool          // new ones are closed at once
	still chan struct{} // closed: bytes flow
}

// start is for Setup: it listens where copiers look for the intercept.
func (r *linkRelay) start(n *netlab.Net) (err error) {
	r.net = n
	r.still = make(chan struct{})
	close(r.still)
	r.listener, err = n.Assistant.Listen("tcp", fmt.Sprintf(":%d", linkPort))
	if err == nil {
		go r.accept()
	}
	return err
}

func (r *linkRelay) accept() {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		to, err := r.net.Assistant.Dial(context.Background(), nil, "tcp",
			netip.AddrPortFrom(netlab.AssistantAddr4, behindPort).String())
		if err != nil {
			c.Close()
			continue
		}
		r.mu.Lock()
		if r.down {
			c.Close()
			to.Close()
		}
		r.conns = append(r.conns, c, to)
		r.mu.Unlock()
		go r.relay(c, to)
		go r.relay(to, c)
	}
}

func (r *linkRelay) relay(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		r.mu.Lock()
		still := r.still
		r.mu.Unlock()
		<-still
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// close ends the relay.
func (r *linkRelay) close() {
	if r.listener != nil {
		r.listener.Close()
	}
	r.mend()
	r.cut()
}

// cut closes the link's connections, and refuses new ones until mend.
func (r *linkRelay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = true
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
}

// freeze lets nothing through until mend.
func (r *linkRelay) freeze() {
	r.mu.Lock()
	r.still = make(chan struct{})
	r.mu.Unlock()
}

func (r *linkRelay) mend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = false
	if r.still == nil {
		return // it never began
	}
	select {
	case <-r.still:
	default:
		close(r.still)
	}
}

// TestLinkBreak breaks the way between copier and intercept. The sessions survive it, and nothing
// is missing: what was not heard meanwhile the target says again.
func TestLinkBreak(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		breaks func(*linkRelay)
		d      time.Duration
		short  bool
	}{
		{"cut for a moment", (*linkRelay).cut, 0, true},
		{"cut for 3 s", (*linkRelay).cut, 3 * time.Second, false},
		{"still for 2 s", (*linkRelay).freeze, 2 * time.Second, true},
		{"still for 8 s, longer than either side bears", (*linkRelay).freeze, 8 * time.Second,
			false},
	} {
		if left(test.short) {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			relay := &linkRelay{}
			t.Cleanup(relay.close)
			r := play(t, lab.Options{
				Via: lab.Raw, Load: lasting(20, 3*time.Second+test.d), Setup: relay.start,
				InterceptArgs: []string{"-p", fmt.Sprint(behindPort)},
				Disturb: func(ctx context.Context, s *lab.Stage) error {
					s.Wait(ctx, time.Second)
					test.breaks(relay)
					s.Wait(ctx, test.d)
					relay.mend()
					return nil
				},
			})
			perfect(t, r)
			if r.Target.Opened != r.Production.Opened {
				t.Errorf("%d connections at the target for %d at production: sessions did not "+
					"survive", r.Target.Opened, r.Production.Opened)
			}
			t.Log(account(r))
		})
	}
}
