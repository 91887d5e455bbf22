package netlab

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"

	"tcpcopy/internal/sys"
)

// Path is a path with delay and loss. A relay in this process emulates it, since not every kernel
// has netem. It requires /dev/net/tun, and carries no packet larger than the MTU.
type Path struct {
	Delay time.Duration // of every packet, each way
	Loss  float64       // percent of the TCP packets, each way
	Seed  uint64        // the same seed and the same packets: the same losses
}

func (p Path) check() error {
	if p.Delay < 0 || p.Delay > time.Minute {
		return fmt.Errorf("make path: a delay of %v, wanted 0 to 1m", p.Delay)
	}
	if math.IsNaN(p.Loss) || p.Loss < 0 || p.Loss > 100 {
		return fmt.Errorf("make path: a loss of %v %%, wanted 0 to 100", p.Loss)
	}
	return nil
}

// queued bounds the packets under way in one direction; more are lost, as at any router.
const queued = 20_000

// relay carries frames between two TAP devices. Four goroutines: one reads and one writes at each
// end.
type relay struct {
	path    Path
	ends    [2]*os.File
	running sync.WaitGroup
	lost    atomic.Uint64
	buffers sync.Pool
}

// frame is an Ethernet frame under way.
type frame struct {
	due  time.Time
	data *[]byte
	n    int
}

// plugRelay is plug for a cable that is a path. The host's device is made by it too.
func (n *Net) plugRelay(p port) error {
	r := &relay{path: n.config.TargetPath}
	size := n.config.MTU + 18 // an Ethernet header with a VLAN tag
	r.buffers.New = func() any { b := make([]byte, size); return &b }
	var err error
	if r.ends[0], err = sys.OpenTAP(p.name); err != nil {
		return err
	}
	n.relay = r
	if err := n.tap(p.name); err != nil {
		return err
	}
	err = p.host.Try(func() error {
		if r.ends[1], err = sys.OpenTAP(p.device); err != nil {
			return err
		}
		return n.tap(p.device)
	})
	if err != nil {
		return err
	}
	for i := range r.ends {
		queue := make(chan frame, queued)
		random := rand.New(rand.NewPCG(r.path.Seed, uint64(i)))
		r.running.Go(func() { r.read(r.ends[i], random, queue) })
		r.running.Go(func() { r.write(r.ends[1-i], queue) })
	}
	bridge, err := netlink.LinkByName(p.bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", p.bridge, err)
	}
	link, err := netlink.LinkByName(p.name)
	if err != nil {
		return fmt.Errorf("find device %s: %w", p.name, err)
	}
	if err := netlink.LinkSetMaster(link, bridge); err != nil {
		return fmt.Errorf("add %s to bridge: %w", p.name, err)
	}
	return linkUp(p.name)
}

// tap prepares a TAP device of the calling thread's namespace.
func (n *Net) tap(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find device %s: %w", name, err)
	}
	if err := netlink.LinkSetMTU(link, n.config.MTU); err != nil {
		return fmt.Errorf("set MTU of %s: %w", name, err)
	}
	if err := netlink.LinkSetTxQLen(link, queued); err != nil {
		return fmt.Errorf("set queue length of %s: %w", name, err)
	}
	return nil
}

// read takes what one end sends, and decides what becomes of it.
func (r *relay) read(from *os.File, random *rand.Rand, queue chan<- frame) {
	defer close(queue)
	for {
		b := r.buffers.Get().(*[]byte)
		n, err := from.Read(*b)
		if err != nil {
			return
		}
		if r.path.Loss > 0 && isTCP((*b)[:n]) && random.Float64()*100 < r.path.Loss {
			r.lost.Add(1)
			r.buffers.Put(b)
			continue
		}
		select {
		case queue <- frame{time.Now().Add(r.path.Delay), b, n}:
		default:
			r.lost.Add(1)
			r.buffers.Put(b)
		}
	}
}

// write hands frames to the other end when they are due. They stay in order.
func (r *relay) write(to *os.File, queue <-chan frame) {
	for f := range queue {
		if d := time.Until(f.due); d > 0 {
			time.Sleep(d)
		}
		// The device may be down, or gone. While the hosts are being made, one end is up before the
		// other, and the kernel already announces addresses there: that is no loss.
		if _, err := to.Write((*f.data)[:f.n]); err != nil && isTCP((*f.data)[:f.n]) {
			r.lost.Add(1)
		}
		r.buffers.Put(f.data)
	}
}

// isTCP reports whether an Ethernet frame holds TCP right behind its IP header.
func isTCP(b []byte) bool {
	if len(b) < 34 {
		return false
	}
	switch uint16(b[12])<<8 | uint16(b[13]) {
	case 0x0800:
		return b[23] == protocolTCP
	case 0x86dd:
		return b[20] == protocolTCP
	}
	return false
}

func (r *relay) close() {
	for _, end := range r.ends {
		if end != nil {
			end.Close()
		}
	}
	r.running.Wait()
}
