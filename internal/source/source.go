package source

import (
	"errors"
	"time"

	"tcpcopy/internal/core/mono"
)

// ErrClosed is the error of Next after Close.
var ErrClosed = errors.New("capture: closed")

// Packet types of a Frame (sll_pkttype in packet(7)).
const (
	Host      uint8 = iota // addressed to this host, at the link layer
	Broadcast              // to every host on the link
	Multicast              // to a group
	OtherHost              // to another host: the interface bridges, mirrors or is promiscuous
	Outgoing               // sent by this host
)

// Frame is one captured packet.
type Frame struct {
	// Data is the captured part of the packet, from its IP header on. It is valid until the
	// source's next call. It may be shorter than Wire (a filter that keeps headers only) or larger
	// than the MTU (offloads), and is never empty.
	Data []byte
	Wire int // length in bytes from the IP header on, before any cut
	// Time is when the kernel saw the packet, on the clock that the source was given. It is never
	// in the future. It never decreases within one interface's ring; between two rings it may, by
	// as much as one ring lags.
	Time    mono.Time
	Ifindex int32  // interface that saw it
	VLAN    uint16 // 802.1Q tag control information; 0 without a tag
	PktType uint8  // Host, Broadcast, …
	// Outgoing reports whether PktType is the constant Outgoing. A packet over loopback is seen
	// twice, once with it and once without.
	Outgoing bool
	Loopback bool // the interface is a loopback interface
}

// Source yields captured frames. One goroutine calls Next; Stats and Close may be called from any
// goroutine.
type Source interface {
	// Next returns the next batch of frames, or an empty one if none arrives within wait. A wait of
	// 0 polls; a negative one has no limit. The batch and the bytes it refers to are valid until
	// the next call of Next. After Close, Next returns ErrClosed. Any other error is final too: the
	// caller must close the source.
	Next(wait time.Duration) ([]Frame, error)
	// Stats returns the totals since the source was opened.
	Stats() Stats
	// Close ends the capture and a Next that is waiting. A batch that the caller still holds stays
	// valid; the next call of Next frees its memory, so the reader should make one more.
	Close() error
}

// Stats are totals since a source was opened. Offered is the sum of Delivered, Dropped, Foreign,
// Malformed, Shed, Lost and the frames still under way to Next.
type Stats struct {
	Offered   uint64 // frames that passed the filter, including lost ones
	Dropped   uint64 // frames lost in the kernel because Next was called too seldom
	Delivered uint64 // frames that Next returned
	Foreign   uint64 // frames that are neither IPv4 nor IPv6, or of another mirrored network
	Malformed uint64 // frames whose encapsulation cannot be decoded
	Shed      uint64 // frames that an agent left out to stay within its limits
	Lost      uint64 // frames that an agent could not send, or lost with its connection
	Stalls    uint64 // times that capture stopped because the buffer was full
	Downs     uint64 // times that an interface went down; capture resumes when it is back
	Corrupt   uint64 // ring blocks with contradictory lengths; the rest of each is left out
}
