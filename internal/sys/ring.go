package sys

import (
	"cmp"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Sizes of a ring of blocks. The kernel hands over a block when a frame does not fit it any more,
// and when the block timeout is over, with as little as one frame in it. So a reader that is away
// for longer than the number of blocks times the timeout loses frames, and many small blocks hold
// more than few large ones unless each fills up within its timeout: of a burst of 30 MB at 400
// Mb/s, 16 MB hold 12.4 MB in blocks of 128 KB, 9.5 MB in blocks of 256 KB and 2.3 MB in blocks of
// 1 MB. In smaller blocks a frame of 64 KB does not fit.
const (
	DefaultBlockSize = 128 << 10
	DefaultBlocks    = 128
	minBlockSize     = 128 << 10
	minBlocks        = 4

	defaultBlockTimeout = 3 // ms
)

// RingConfig configures a Ring.
type RingConfig struct {
	// Interface is a name; empty: all interfaces, also those that come later.
	Interface string
	Protocol  uint16 // EtherType; 0: all, which alone captures outgoing packets
	// Filter sees packets from their network header on; empty: it accepts all.
	Filter    []bpf.RawInstruction
	BlockSize int // bytes, rounded up to a power of two of at least 128 KB; 0: 128 KB
	Blocks    int // 0: 128
	// BlockTimeout is when a block that is not full is handed over, in whole milliseconds; 0: 3 ms.
	BlockTimeout time.Duration
	// Immediate makes a ring of slots in place of blocks: see Ring.Slot.
	Immediate bool
	Slot      int // bytes of a slot, a power of two of at least 256; 0: 2,048
	// Queue bounds the packets that are larger than a slot, in bytes; 0: 8 MB.
	Queue          int
	IgnoreOutgoing bool // do not capture what this host sends (Linux 4.20)
	Promiscuous    bool // capture also frames addressed to others; one named interface only
}

// Ring is a receive ring in memory shared with the kernel: of blocks (TPACKET_V3), which come in
// order, one at a time, or, with RingConfig.Immediate, of slots. Block, Release, Slot, ReleaseSlots
// and Used are for one goroutine; the other methods are safe beside it, but for Close.
type Ring struct {
	fd        int
	mem       []byte
	blockSize int
	blocks    int
	slot      int // bytes of a slot; 0: the ring has blocks
	next      int // the block, or slot, that is the reader's next, or now
	taken     int // slots before next that ReleaseSlots gives back
	large     []byte
	name      string
	protocol  uint16
	promisc   bool
}

// OpenRing opens a packet socket in the calling thread's network namespace and starts capturing.
// The filter is in place before the first packet can arrive. Where memory is short the ring is
// smaller, down to 512 KB; see Size.
func OpenRing(cfg RingConfig) (*Ring, error) {
	fd, err := openPacket()
	if err != nil {
		return nil, err
	}
	r := &Ring{
		fd: fd, name: cfg.Interface, protocol: cfg.Protocol,
		promisc: cfg.Promiscuous && cfg.Interface != "",
	}
	if r.protocol == 0 {
		r.protocol = EthPAll
	}
	if err := r.setUp(&cfg); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Ring) setUp(cfg *RingConfig) error {
	ifindex := 0
	if r.name != "" {
		var err error
		if ifindex, err = interfaceIndex(r.fd, r.name); err != nil {
			return err
		}
	}
	if err := attachFilter(r.fd, cfg.Filter); err != nil {
		return err
	}
	if cfg.IgnoreOutgoing {
		err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
		if err != nil {
			return fmt.Errorf("ignore outgoing packets: %w", err)
		}
	}
	version := unix.TPACKET_V3
	if cfg.Immediate {
		version, r.slot = unix.TPACKET_V2, cmp.Or(cfg.Slot, slotSize)
		if err := r.openQueue(cfg.Queue); err != nil {
			return err
		}
	}
	if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_VERSION, version); err != nil {
		return fmt.Errorf("set packet ring version %d: %w", version+1, err)
	}
	if err := r.allocate(cfg); err != nil {
		return err
	}
	return r.bind(ifindex)
}

// bind starts the capture on an interface, or on all with 0.
func (r *Ring) bind(ifindex int) error {
	if r.promisc {
		if err := setPromiscuous(r.fd, ifindex); err != nil {
			return err
		}
	}
	return bindPacket(r.fd, ifindex, r.protocol)
}

func (r *Ring) allocate(cfg *RingConfig) error {
	size, blocks := minBlockSize, cfg.Blocks
	for size < cfg.BlockSize {
		size <<= 1
	}
	if blocks == 0 {
		blocks = DefaultBlocks
	}
	blocks = max(blocks, 2)
	timeout := uint32(defaultBlockTimeout)
	if cfg.BlockTimeout > 0 {
		timeout = uint32(max(1, cfg.BlockTimeout.Milliseconds()))
	}
	frame := cmp.Or(r.slot, slotSize)
	for {
		// Blocks pack their frames: for them the frame size has no meaning, but must agree with the
		// rest.
		req := unix.TpacketReq3{
			Block_size: uint32(size), Block_nr: uint32(blocks),
			Frame_size: uint32(frame), Frame_nr: uint32(size / frame * blocks),
			Retire_blk_tov: timeout,
		}
		err := r.request(&req)
		if err == nil {
			break
		}
		smaller := errors.Is(err, unix.ENOMEM)
		switch {
		case smaller && blocks > minBlocks:
			blocks = max(blocks/2, minBlocks)
		case smaller && size > minBlockSize:
			size /= 2
		default:
			return fmt.Errorf("allocate packet ring of %d blocks of %d bytes: %w",
				blocks, size, err)
		}
	}
	mem, err := unix.Mmap(r.fd, 0, size*blocks, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map packet ring of %d bytes: %w", size*blocks, err)
	}
	r.mem, r.blockSize, r.blocks = mem, size, blocks
	return nil
}

// request asks the kernel for the ring's memory.
func (r *Ring) request(req *unix.TpacketReq3) error {
	if r.slot == 0 {
		return unix.SetsockoptTpacketReq3(r.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, req)
	}
	return unix.SetsockoptTpacketReq(r.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &unix.TpacketReq{
		Block_size: req.Block_size, Block_nr: req.Block_nr,
		Frame_size: req.Frame_size, Frame_nr: req.Frame_nr,
	})
}

// status returns the word by which kernel and reader pass a block to and fro.
func (r *Ring) status(block int) *uint32 {
	return (*uint32)(unsafe.Pointer(&r.mem[block*r.blockSize+blockStatusOff]))
}

// Block returns the next block if the kernel has handed it over, else nil. It is the reader's until
// Release; calling Block again before that returns the same one.
func (r *Ring) Block() []byte {
	if atomic.LoadUint32(r.status(r.next))&unix.TP_STATUS_USER == 0 {
		return nil
	}
	start := r.next * r.blockSize
	return r.mem[start : start+r.blockSize : start+r.blockSize]
}

// Release gives the block that Block returned back to the kernel; views of it are dead.
func (r *Ring) Release() {
	atomic.StoreUint32(r.status(r.next), unix.TP_STATUS_KERNEL)
	if r.next++; r.next == r.blocks {
		r.next = 0
	}
}

// Size returns the ring's size in bytes.
func (r *Ring) Size() int { return len(r.mem) }

// Used returns how much of the ring holds frames that were not given back, in blocks or slots, and
// how many of them there are.
func (r *Ring) Used() (used, of int) {
	if r.slot != 0 {
		return r.usedSlots(), r.slots()
	}
	for used < r.blocks {
		if atomic.LoadUint32(r.status((r.next+used)%r.blocks))&unix.TP_STATUS_USER == 0 {
			break
		}
		used++
	}
	return used, r.blocks
}

// Interface returns the name that the ring was opened with.
func (r *Ring) Interface() string { return r.name }

// SetFilter replaces the filter, for frames that come from now on. An empty one accepts everything.
func (r *Ring) SetFilter(prog []bpf.RawInstruction) error {
	if len(prog) > 0 {
		return attachFilter(r.fd, prog)
	}
	err := unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
	if err != nil && err != unix.ENOENT { // there was none
		return fmt.Errorf("detach filter: %w", err)
	}
	return nil
}

// Rebind binds the ring to its interface again if that has another index now, since it was removed
// and made again. It returns an error if there is no such interface yet.
func (r *Ring) Rebind() error {
	if r.name == "" {
		return nil
	}
	index, err := interfaceIndex(r.fd, r.name)
	if err != nil {
		return err
	}
	if sa, err := unix.Getsockname(r.fd); err == nil {
		if ll, ok := sa.(*unix.SockaddrLinklayer); ok && ll.Ifindex == index {
			return nil
		}
	}
	return r.bind(index)
}

// TakeError returns and clears the socket's pending error, ENETDOWN when its interface went down.
// An error that is left pending ends every wait at once.
func (r *Ring) TakeError() error {
	errno, err := unix.GetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		return err
	case errno != 0:
		return unix.Errno(errno)
	}
	return nil
}

// RingStats are counts since the last call of Stats.
type RingStats struct {
	Packets uint32 // passed the filter, drops included
	Drops   uint32 // found no room in the ring
	Freezes uint32 // times that the ring was full and capture stopped
}

// Stats returns the counts since its last call and sets them to zero.
func (r *Ring) Stats() (RingStats, error) {
	if r.slot != 0 {
		s, err := unix.GetsockoptTpacketStats(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if err != nil {
			return RingStats{}, fmt.Errorf("read packet statistics: %w", err)
		}
		return RingStats{Packets: s.Packets, Drops: s.Drops}, nil
	}
	s, err := unix.GetsockoptTpacketStatsV3(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return RingStats{}, fmt.Errorf("read packet statistics: %w", err)
	}
	return RingStats{Packets: s.Packets, Drops: s.Drops, Freezes: s.Freeze_q_cnt}, nil
}

// Close unmaps the ring and closes its socket. No view of a block may be in use.
func (r *Ring) Close() error {
	var err error
	if r.mem != nil {
		err = unix.Munmap(r.mem)
		r.mem = nil
	}
	return errors.Join(err, unix.Close(r.fd))
}
