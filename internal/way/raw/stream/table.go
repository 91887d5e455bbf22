package stream

import (
	"net/netip"
	"slices"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/way/address"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/raw/tcp"
)

// Config is a Table's configuration.
type Config struct {
	Address   address.Chooser
	ISNAtZero seqnum.Value // the clock of sequence numbers at mono time 0: 4 µs ticks of wall time
	ISNSecret [32]byte     // what sequence numbers depend on that nobody else knows
	TSAtZero  uint32       // the clock of timestamps at mono time 0: milliseconds of wall time
	SYN       SYN
	// MaxSegment returns the payload bound that the path to a target sets, in bytes, before TCP
	// options.
	MaxSegment func(target netip.Addr) int
	// Keep returns the targets whose first words the intercepts are to keep from the beginning: all
	// their answers will be read. It may be nil.
	Keep           func() []netip.AddrPort
	Congestion     uint8 // as in tcp.Config
	ConnectTimeout time.Duration
	UserTimeout    time.Duration
}

// SYN is which options a SYN offers.
type SYN uint8

// The options that a SYN can offer.
const (
	SYNClient  SYN = iota // those of the client's SYN
	SYNFull               // MSS, SACK, timestamps, window scale
	SYNMinimal            // MSS alone
)

// Seek asks whether a SYN may be sent on a tuple.
type Seek struct {
	Tuple shard.Tuple
	Age   time.Duration // since the first SYN was due
}

const (
	// maxSpare is how many Streams are kept for reuse.
	maxSpare = 256
	// releaseAtOnce and releaseAfter are how many tuples, or for how long one, wait to be released.
	releaseAtOnce = 128
	releaseAfter  = time.Second
)

// Table is the Streams of one shard. All methods are for the shard's goroutine.
type Table struct {
	cfg     Config
	now     mono.Time
	up      bool // an intercept reports the targets' answers
	slot    uint8
	streams map[shard.Tuple]*Stream // those that have begun
	ended   timeWait
	paths   narrowPaths
	out     []packet.Segment
	queries []shard.Tuple
	seeks   []Seek
	behind  bool

	readings []wire.Reading
	readers  int // how many intercepts read answers
	keepers  map[netip.AddrPort]keeper
	serial   uint32 // of the last reading

	released   []shard.Tuple // the target has nothing more to say on them
	releasedAt mono.Time     // when the first of them was put there
	spare      []*Stream
	opening    tcp.Config // of the Stream that is being opened

	segmentsIn, segmentsOut, retransmits, foreign uint64
}

// New returns a Table without Streams.
func New(cfg Config) *Table {
	return &Table{
		cfg: cfg, streams: make(map[shard.Tuple]*Stream), keepers: make(map[netip.AddrPort]keeper),
		paths: narrowPaths{}, ended: newTimeWait(max(1, maxEnded/max(1, cfg.Address.Count))),
	}
}

// Open implements shard.Streams.
func (t *Table) Open(now mono.Time, spec *session.OpenSpec, c shard.Copy) session.Stream {
	t.SetTime(now)
	st := t.stream()
	st.copy, st.id = c, spec.ID
	if !t.up {
		st.state, st.why = Failed, ledger.LinkDown
		return st
	}
	source, why := t.cfg.Address.Choose(spec, t.owner)
	if why != ledger.None {
		st.state, st.why = Failed, why
		return st
	}
	st.tuple = shard.TupleOf(source, spec.Target)
	t.configure(&t.opening, source, spec)
	st.record, st.cfg, st.asked = spec.Record, &t.opening, now
	if now.Sub(spec.Since) > lateAfter {
		st.asked = spec.Since
	}
	if old := t.streams[st.tuple]; old != nil {
		// The client has used its port again, and the old connection's last bytes are on their way.
		own := t.opening
		st.cfg = &own
		st.queueBehind(old, now.Add(takeover))
		return st
	}
	st.begin(now)
	return st
}

// owner implements address.Owner.
func (t *Table) owner(tuple shard.Tuple) (connection shard.Tuple, used bool) {
	if st := t.streams[tuple]; st != nil {
		return st.copy.Connection(), true
	}
	return shard.Tuple{}, false
}

// stream returns a new Stream, or a spare one.
func (t *Table) stream() *Stream {
	if n := len(t.spare); n > 0 {
		st := t.spare[n-1]
		t.spare = t.spare[:n-1]
		*st = Stream{conn: st.conn, table: t}
		return st
	}
	return &Stream{table: t}
}

// configure sets how a connection begins, except for its numbers.
func (t *Table) configure(cfg *tcp.Config, source netip.AddrPort, spec *session.OpenSpec) {
	*cfg = tcp.Config{
		Local: source, Remote: spec.Target,
		Syn: t.options(spec), SynWindow: spec.Window,
		MaxSegment: t.paths.bound(t.now, spec.Target.Addr(),
			t.cfg.MaxSegment(spec.Target.Addr())),
		CongestionControl: t.cfg.Congestion,
		ConnectTimeout:    t.cfg.ConnectTimeout, UserTimeout: t.cfg.UserTimeout,
		LeaveFrom: 2,
	}
	if spec.Window == 0 && spec.SYN == (packet.Options{}) {
		// The client's connection was found under way: the target may know the tuple.
		cfg.LeaveFrom = 1
	}
	cfg.Syn.MSS = min(cfg.Syn.MSS, uint16(cfg.MaxSegment))
}

// options returns what the SYN of a copy offers.
func (t *Table) options(spec *session.OpenSpec) packet.Options {
	mss := uint16(min(t.cfg.MaxSegment(spec.Target.Addr()), 65535))
	switch {
	case t.cfg.SYN == SYNMinimal:
		return packet.Options{MSS: mss}
	case t.cfg.SYN == SYNClient && spec.SYN.MSS != 0:
		o := spec.SYN
		o.NSACK = 0
		return o
	default:
		return packet.Options{MSS: mss, SACKPermitted: true, HasTS: true, HasWScale: true,
			WScale: 7}
	}
}

// SetTime sets the time of the calls that follow. Each Step sets it.
func (t *Table) SetTime(now mono.Time) {
	t.now = max(t.now, now)
	t.ended.expire(t.now)
}

// Segment takes in a segment of a target's, as an intercept has reported it: without payload.
// stalled is shard.Input.Stalled: no round trip is measured from it.
func (t *Table) Segment(now mono.Time, seg *packet.Segment, stalled bool) {
	t.segmentsIn++
	tuple := shard.TupleOf(seg.Dst, seg.Src)
	st := t.streams[tuple]
	if st == nil {
		t.answerEnded(now, tuple, seg)
		return
	}
	c := st.copy
	st.noteSYN(seg)
	if stalled {
		st.conn.DeliverLate(now, seg)
	} else {
		st.conn.Deliver(now, seg)
	}
	st.report(now)
	c.Touch()
}

// answerEnded answers a segment of a target's whose connection has ended at our side.
func (t *Table) answerEnded(now mono.Time, tuple shard.Tuple, seg *packet.Segment) {
	_, id := identify(&t.cfg.ISNSecret, &tuple)
	old, ok := t.ended.get(now, id)
	if !ok {
		t.foreign++
		return
	}
	switch {
	case !seg.Flags.Has(packet.ACK) || seg.Flags.Any(packet.RST):
		return
	case old.how == endedAborted, // our reset was lost, or was outside of the target's window
		// The target has accepted our SYN after all.
		old.how == endedTaken && seg.Flags.Has(packet.SYN) && seg.Ack+1 == old.next:
		t.out = append(t.out, tcp.ResetFor(seg))
	case seg.Flags.Any(packet.FIN):
		// Our last ACK was lost: the target is in LAST-ACK (RFC 9293 §3.10.7.4).
		t.out = append(t.out, tcp.AckFor(seg))
	default:
		return
	}
	t.segmentsOut++
}

// Unowned takes in that no other copier owns a tuple, in answer to Queries: the old connection that
// the target has is no copier's.
func (t *Table) Unowned(now mono.Time, tuple shard.Tuple) {
	if st := t.streams[tuple]; st != nil {
		st.conn.FreeOldConnection(now)
		st.copy.Touch()
	}
}

// Free takes in that no other copier has a tuple, in answer to Seeks: the SYN that waits is sent.
func (t *Table) Free(tuple shard.Tuple) {
	if st := t.streams[tuple]; st != nil {
		st.conn.Leave()
		st.copy.Touch()
	}
}

// Taken takes in that another copier has a tuple, and had it first. A Stream that has not opened
// gives up and sends nothing more, because that could harm the other copier's connection. If the
// target accepts our SYN after that, there is no other connection, and ours is reset.
func (t *Table) Taken(now mono.Time, tuple shard.Tuple) {
	if st := t.streams[tuple]; st != nil && st.state == Opening {
		st.fail(now, ledger.TupleTaken)
	}
}

// SetLink sets whether an intercept reports the targets' answers, and the slot, which names this
// copier in the low bits of initial sequence numbers. While up is false new copies are dropped.
func (t *Table) SetLink(up bool, slot uint8) { t.up, t.slot = up, slot }

// Tuples returns the tuples of all connections that have opened, for an intercept that has to learn
// their owner. It learns of the others from the targets' SYN-ACKs.
func (t *Table) Tuples() []shard.Tuple {
	all := make([]shard.Tuple, 0, len(t.streams))
	for tuple, st := range t.streams {
		if st.state >= Open {
			all = append(all, tuple)
		}
	}
	return all
}

// Output returns the segments that are to be sent, and forgets them. They and the payload that they
// refer to are valid until the next Step.
func (t *Table) Output() []packet.Segment {
	out := t.out
	t.out = t.out[:0]
	return out
}

// Queries returns the tuples of which the intercepts must be asked who owns them, and forgets them.
// The answer is Unowned, or none.
func (t *Table) Queries() []shard.Tuple {
	q := t.queries
	t.queries = nil
	return q
}

// Seeks returns what the intercepts must be asked before more SYNs are sent, and forgets it. The
// answer is Free or Taken.
func (t *Table) Seeks() []Seek {
	s := t.seeks
	t.seeks = nil
	return s
}

// Behind reports whether a copy that was polled since the last call was behind its client.
func (t *Table) Behind() bool {
	b := t.behind
	t.behind = false
	return b
}

// Releases returns the tuples that the intercepts can forget, and forgets them itself. It returns
// none until there are many, or until one has waited for a while.
func (t *Table) Releases() []shard.Tuple {
	n := len(t.released)
	if n == 0 || n < releaseAtOnce && t.now.Sub(t.releasedAt) < releaseAfter {
		return nil
	}
	inUse := func(tuple shard.Tuple) bool { return t.streams[tuple] != nil }
	list := slices.DeleteFunc(t.released, inUse)
	t.released = nil
	return list
}

// Count implements shard.Streams.
func (t *Table) Count(c *ledger.Counters) {
	c.SegmentsIn += t.segmentsIn
	c.SegmentsOut += t.segmentsOut
	c.Retransmits += t.retransmits
	c.ForeignAnswers += t.foreign
}

// shardTuple returns the tuple that names the same connection as a link's.
func shardTuple(w wire.Tuple) shard.Tuple { return shard.TupleOf(w.Client, w.Target) }
