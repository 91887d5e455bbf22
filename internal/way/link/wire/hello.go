package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"time"

	"tcpcopy/internal/proto"
)

// Capabilities are bits for what an end can do beyond the raw way of this version. What both ends
// have set may be used. Unknown bits are ignored.
type Capabilities uint64

// ReadsAnswers is set by an intercept that reads targets' answers by their protocol, and reports
// where they end.
const ReadsAnswers Capabilities = 1 << 0

// Has reports whether all bits of d are set.
func (c Capabilities) Has(d Capabilities) bool { return c&d == d }

// Way is how an intercept reaches the target.
type Way uint8

// The ways.
const (
	WayRaw    Way = 1 // it captures the target's packets and reports their headers
	WayTunnel Way = 2 // it runs on the target and opens connections there
)

// String returns the way's name, as in --via.
func (w Way) String() string {
	switch w {
	case WayRaw:
		return "raw"
	case WayTunnel:
		return "tunnel"
	}
	return fmt.Sprintf("way %d", uint8(w))
}

// Instance names one run of a copier or an agent: random bytes, chosen at its start.
type Instance [16]byte

// MaxHelloList bounds the targets, and the client networks, that a Hello can name.
const MaxHelloList = 2048

// Hello introduces a copier on each of its connections.
type Hello struct {
	Version  uint16
	Instance Instance
	// Slot is the low 8 bits of the copier's initial sequence numbers: 1 to 255.
	Slot uint8
	// Conn is this connection's number among the Conns parallel ones of the copier, from 0.
	Conn, Conns  uint8
	Capabilities Capabilities
	Software     string // for logs, at most 255 bytes
	// Targets are where the copier sends copies. It owns no connections to others.
	Targets []netip.AddrPort
	// Clients are the networks of the addresses that stand in for clients (-c). None may be the
	// intercept's own. It is empty where the real clients' addresses are used.
	Clients []netip.Prefix
	// ConnectTimeout is how long an intercept on the target may take to connect, in whole
	// milliseconds; 0: its own default.
	ConnectTimeout time.Duration
	// Seed is the key of digests; it is sent with the capability Digests only.
	Seed uint64
	// Wanted is what digests are to have; it is sent with the capabilities Digests and Names only.
	Wanted proto.Wanted
}

// HelloVersion returns the version in a Hello or AgentHello, which comes first in every version.
func HelloVersion(f Frame) (uint16, error) {
	c := cursor{b: f.Body}
	return c.u16(), c.err(f.Type)
}

// Append appends the message as a frame. At most MaxHelloList of each list are sent.
func (h *Hello) Append(dst []byte) []byte {
	start := len(dst)
	dst = begin(dst, TypeHello, 0)
	dst = binary.BigEndian.AppendUint16(dst, h.Version)
	dst = append(dst, h.Instance[:]...)
	dst = append(dst, h.Slot, h.Conn, h.Conns)
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.Capabilities))
	dst = appendText(dst, h.Software)
	targets := h.Targets[:min(len(h.Targets), MaxHelloList)]
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(targets)))
	for _, t := range targets {
		dst = appendAddrPort(dst, t)
	}
	clients := h.Clients[:min(len(h.Clients), MaxHelloList)]
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(clients)))
	for _, p := range clients {
		dst = appendPrefix(dst, p)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(min(max(h.ConnectTimeout.Milliseconds(), 0),
		math.MaxUint32)))
	if h.Capabilities.Has(Digests) {
		dst = binary.BigEndian.AppendUint64(dst, h.Seed)
	}
	if h.Capabilities.Has(Digests | Names) {
		dst = appendWanted(dst, &h.Wanted)
	}
	return end(dst, start)
}

// Decode reads the body of a Hello. If the version is not this package's, it sets only Version and
// returns no error: what follows may have any form.
func (h *Hello) Decode(body []byte) error {
	c := cursor{b: body}
	*h = Hello{Version: c.u16()}
	if c.short {
		return c.err(TypeHello)
	}
	if h.Version != Version {
		return nil
	}
	copy(h.Instance[:], c.bytes(len(h.Instance)))
	h.Slot, h.Conn, h.Conns = c.u8(), c.u8(), c.u8()
	h.Capabilities = Capabilities(c.u64())
	h.Software = c.text()
	n := int(c.u16())
	if n > MaxHelloList {
		return fmt.Errorf("%w in hello: %d targets, want at most %d", ErrValue, n, MaxHelloList)
	}
	for i := 0; i < n && !c.short && !c.bad; i++ {
		h.Targets = append(h.Targets, c.addrPort())
	}
	if n = int(c.u16()); n > MaxHelloList {
		return fmt.Errorf("%w in hello: %d client networks, want at most %d", ErrValue, n,
			MaxHelloList)
	}
	for i := 0; i < n && !c.short && !c.bad; i++ {
		h.Clients = append(h.Clients, c.prefix())
	}
	h.ConnectTimeout = time.Duration(c.u32()) * time.Millisecond
	if h.Capabilities.Has(Digests) {
		h.Seed = c.u64()
	}
	if h.Capabilities.Has(Digests | Names) {
		h.Wanted = c.wanted()
	}
	if err := c.err(TypeHello); err != nil {
		return err
	}
	if h.Slot == 0 {
		return fmt.Errorf("%w in hello: slot 0, want 1 to 255", ErrValue)
	}
	if h.Conn >= h.Conns {
		return fmt.Errorf("%w in hello: connection %d of %d", ErrValue, h.Conn, h.Conns)
	}
	return nil
}

// Welcome is the answer to a Hello that is accepted.
type Welcome struct {
	Version      uint16
	Way          Way
	Slot         uint8 // the one proposed
	Capabilities Capabilities
	HoldMillis   uint16 // how long a segment of a connection without an owner waits for a Claim
	Software     string
	// Forbidden are the targets of the Hello that an intercept on the target does not connect to:
	// they are not its host's, or their ports are not allowed.
	Forbidden []netip.AddrPort
}

// Append appends the message as a frame.
func (w *Welcome) Append(dst []byte) []byte {
	start := len(dst)
	dst = begin(dst, TypeWelcome, 0)
	dst = binary.BigEndian.AppendUint16(dst, w.Version)
	dst = append(dst, byte(w.Way), w.Slot)
	dst = binary.BigEndian.AppendUint64(dst, uint64(w.Capabilities))
	dst = binary.BigEndian.AppendUint16(dst, w.HoldMillis)
	dst = appendText(dst, w.Software)
	forbidden := w.Forbidden[:min(len(w.Forbidden), MaxHelloList)]
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(forbidden)))
	for _, t := range forbidden {
		dst = appendAddrPort(dst, t)
	}
	return end(dst, start)
}

// Decode reads the body of a Welcome.
func (w *Welcome) Decode(body []byte) error {
	c := cursor{b: body}
	*w = Welcome{Version: c.u16(), Way: Way(c.u8()), Slot: c.u8(),
		Capabilities: Capabilities(c.u64()),
		HoldMillis:   c.u16(), Software: c.text()}
	n := int(c.u16())
	if n > MaxHelloList {
		return fmt.Errorf("%w in welcome: %d targets, want at most %d", ErrValue, n, MaxHelloList)
	}
	for i := 0; i < n && !c.short && !c.bad; i++ {
		w.Forbidden = append(w.Forbidden, c.addrPort())
	}
	if err := c.err(TypeWelcome); err != nil {
		return err
	}
	if w.Version != Version {
		return fmt.Errorf("%w in welcome: version %d, want %d", ErrValue, w.Version, Version)
	}
	return nil
}

// Slots is a set of slots, one bit each.
type Slots [32]byte

// Has reports whether slot is in the set.
func (s *Slots) Has(slot uint8) bool { return s[slot>>3]&(1<<(slot&7)) != 0 }

// Add adds slot to the set.
func (s *Slots) Add(slot uint8) { s[slot>>3] |= 1 << (slot & 7) }

// Code is why an end refuses its peer.
type Code uint8

// The codes.
const (
	CodeVersion     Code = 1 // another version
	CodeSlot        Code = 2 // another copier has the slot; Slots are those that are taken
	CodeFull        Code = 3 // no room for another peer
	CodeNeedsKey    Code = 4 // this end has a key, the peer did not use one
	CodeNoKey       Code = 5 // the peer used a key, this end has none
	CodeLocalClient Code = 6 // an address of Clients is the intercept's own
	CodeMalformed   Code = 7 // the hello cannot be read
	CodeRights      Code = 8 // the peer's key does not permit what it wants
)

var codeNames = [...]string{CodeVersion: "version", CodeSlot: "slot taken", CodeFull: "full",
	CodeNeedsKey: "key wanted", CodeNoKey: "no key", CodeLocalClient: "local client address",
	CodeMalformed: "malformed", CodeRights: "not permitted"}

// String returns the code's name, or its number.
func (c Code) String() string {
	if int(c) < len(codeNames) && codeNames[c] != "" {
		return codeNames[c]
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// Refuse is the answer to a hello that is not accepted, or to what is none. The connection is
// closed after it.
type Refuse struct {
	Code  Code
	Text  string // for a person
	Slots Slots  // those that are taken, with CodeSlot
}

// Append appends the message as a frame.
func (r *Refuse) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(begin(dst, TypeRefuse, 0), byte(r.Code))
	dst = append(dst, r.Slots[:]...)
	return end(appendLongText(dst, r.Text), start)
}

// Decode reads the body of a Refuse.
func (r *Refuse) Decode(body []byte) error {
	c := cursor{b: body}
	*r = Refuse{Code: Code(c.u8())}
	copy(r.Slots[:], c.bytes(len(r.Slots)))
	r.Text = c.longText()
	return c.err(TypeRefuse)
}
