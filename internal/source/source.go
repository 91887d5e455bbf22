package source

import (
	"errors"
	"time"

	"tcpcopy/internal/core/mono"
)

// ErrClosed is what Next returns once Close was called.
var ErrClosed = errors.New("capture: closed")

// Packet types of a Frame (packet(7), sll_pkttype).
const (
	Host      uint8 = iota // addressed to this host, at the link layer
	Broadcast              // to all on the link
	Multicast              // to a group
	OtherHost              // to another host, seen because the link shows it (bridge, mirror, promiscuous)
	Outgoing               // sent by this host
)

// Frame is one captured packet.
type Frame struct {
	// Data is the packet from its IP header on, as much as was captured: a view that holds until the
	// source's next call. It may be shorter than Wire (a filter that wants headers only), larger than
	// the MTU (offloads), and is never empty.
	Data []byte
	Wire int // length from the IP header on, before any cut
	// Time is when the kernel saw the packet, on the clock that the source was given. It is never in the
	// future, and never falls within the frames of one interface's ring; between two rings it may, by as
	// much as one of them lags.
	Time    mono.Time
	Ifindex int32  // interface where it was seen
	VLAN    uint16 // 802.1Q tag control information, where a tag was there; else 0
	PktType uint8  // Host …
	// Outgoing is PktType == Outgoing. A packet over loopback is seen twice, once with it and once
	// without.
	Outgoing bool
	Loopback bool // seen on a loopback interface
}

// Source yields captured frames. One goroutine calls Next; Stats and Close are safe from any.
type Source interface {
	// Next returns the next batch: at once if there is one, else after waiting for at most wait
	// (0: not at all; negative: without bound). An empty batch means that there was nothing. The batch
	// and all it refers to are the caller's until the next call of Next. After Close it returns
	// ErrClosed; any other error is final too, and the source is to be closed.
	Next(wait time.Duration) ([]Frame, error)
	// Stats returns the totals since the source was opened.
	Stats() Stats
	// Close ends the capture and any Next that is waiting. A batch that is still held stays valid; the
	// memory under it goes with the Next that follows, which the reader should therefore make.
	Close() error
}

// Stats are totals since a source was opened.
// Offered = Delivered + Dropped + Foreign + Malformed + Shed + Lost + what is still under way to Next.
type Stats struct {
	Offered   uint64 // frames that passed the filter, lost ones included
	Dropped   uint64 // lost in the kernel: no room, because Next was called too seldom
	Delivered uint64 // frames that Next returned
	Foreign   uint64 // frames left out: neither IPv4 nor IPv6, or of a mirrored network that is not wanted
	Malformed uint64 // frames left out: an encapsulation that cannot be read
	Shed      uint64 // frames that an agent left out to stay within its bounds
	Lost      uint64 // frames that an agent could not send, or that were lost with its connection
	Stalls    uint64 // times that the buffer was full and capture stood still
	Downs     uint64 // times that an interface went down or vanished; capture goes on when it is back
	Corrupt   uint64 // blocks that contradicted themselves: the rest of each was left out
}
