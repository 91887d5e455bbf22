package shard

import (
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
)

// halfOpens holds the half-open connections: those whose client has sent a SYN and whose handshake
// has not completed (RFC 4987 §2). Anyone can send a SYN from any address, so a SYN opens no copy,
// costs little, and is forgotten after halfOpenLife, or earlier if newer ones need its place.
type halfOpens struct {
	most    int // entries
	byTuple map[Tuple]int32
	list    []halfOpen // an entry's index does not change
	free    int32      // the first entry that is not in use, linked by next
	// The entries in use are linked from the one whose SYN came first to the last one.
	oldest, newest int32
	data           map[int32][]byte // payloads of SYNs (RFC 7413), from the shard's pool
	dataBytes      int
}

// halfOpen is a half-open connection: what the session and its copy need of the SYN.
type halfOpen struct {
	key            Tuple
	at             mono.Time // when the first SYN was captured
	heard          mono.Time // when the last one came
	isn, serverISN seqnum.Value
	tsVal          uint32
	dataLen        int32 // length of the SYN's payload
	service        int32
	ifindex        int32
	prev, next     int32
	mss, window    uint16
	flags          packet.Flags
	wscale         uint8
	hasWScale      bool
	sackPermitted  bool
	hasTS          bool
	answered       bool // serverISN is known: the server's SYN-ACK was captured
}

const (
	// halfOpenLife is how long a connection may stay half-open after its last SYN.
	halfOpenLife = 5 * time.Second
	// expireRest is how long to wait before others are forgotten, so that many are at once.
	expireRest = 100 * time.Millisecond
	// halfOpenCost is the memory that the bound counts for a half-open connection, in bytes.
	halfOpenCost = 192
	// halfOpenData bounds the payloads of SYNs that are kept, in bytes.
	halfOpenData = 1 << 20
	// halfOpenKept is for how many half-open connections room is kept while there are none.
	halfOpenKept = 1024
	// halfOpenWindow is how far a segment's numbers may be beyond the initial ones. The segments
	// before it may have been lost, so it is some round trips' worth of data.
	halfOpenWindow = 1 << 20
	// defaultHalfOpen is the default of Config.MaxHalfOpen.
	defaultHalfOpen = 1 << 17

	none = int32(-1) // no entry
)

func (t *halfOpens) init(cfg *Config) {
	t.most = cfg.MaxHalfOpen
	if t.most <= 0 {
		t.most = defaultHalfOpen
	}
	t.most = max(1, min(t.most, int(cfg.MaxMemory/16/halfOpenCost)))
	t.free, t.oldest, t.newest = none, none, none
}

// memory returns what the bound on memory counts, without the payloads.
func (t *halfOpens) memory() int64 { return int64(len(t.byTuple)) * halfOpenCost }

// get returns the entry of a connection; nil if it is not half-open.
func (t *halfOpens) get(key *Tuple) *halfOpen {
	if len(t.byTuple) == 0 {
		return nil
	}
	if i, ok := t.byTuple[*key]; ok {
		return &t.list[i]
	}
	return nil
}

// add adds an entry at the new end, for which there must be room.
func (t *halfOpens) add(key *Tuple) *halfOpen {
	i := t.free
	if i != none {
		t.free = t.list[i].next
	} else {
		i = int32(len(t.list))
		t.list = append(t.list, halfOpen{})
	}
	if t.byTuple == nil {
		t.byTuple = make(map[Tuple]int32)
	}
	t.byTuple[*key] = i
	t.list[i] = halfOpen{key: *key}
	t.link(i)
	return &t.list[i]
}

// link puts an entry at the new end of the order.
func (t *halfOpens) link(i int32) {
	h := &t.list[i]
	h.prev, h.next = t.newest, none
	if t.newest != none {
		t.list[t.newest].next = i
	} else {
		t.oldest = i
	}
	t.newest = i
}

// unlink takes an entry out of the order.
func (t *halfOpens) unlink(i int32) {
	h := &t.list[i]
	if h.prev != none {
		t.list[h.prev].next = h.next
	} else {
		t.oldest = h.next
	}
	if h.next != none {
		t.list[h.next].prev = h.prev
	} else {
		t.newest = h.prev
	}
}

// refresh moves an entry to the new end of the order.
func (t *halfOpens) refresh(h *halfOpen, now mono.Time) {
	i := t.byTuple[h.key]
	t.unlink(i)
	t.link(i)
	h.heard = now
}

// remove removes an entry and returns the payload of its SYN, which the caller owns.
func (t *halfOpens) remove(h *halfOpen) []byte {
	i := t.byTuple[h.key]
	delete(t.byTuple, h.key)
	t.unlink(i)
	h.next, t.free = t.free, i
	data := t.data[i]
	if data != nil {
		delete(t.data, i)
		t.dataBytes -= len(data)
	}
	if len(t.byTuple) == 0 && len(t.list) > halfOpenKept {
		*t = halfOpens{most: t.most, free: none, oldest: none, newest: none}
	}
	return data
}

// keep keeps a copy of the payload of a SYN, if there is room. A payload that is not kept counts as
// missing.
func (t *halfOpens) keep(sh *Shard, h *halfOpen, payload []byte) {
	if len(payload) == 0 || t.dataBytes+len(payload) > halfOpenData {
		return
	}
	if t.data == nil {
		t.data = make(map[int32][]byte)
	}
	t.data[t.byTuple[h.key]] = append(sh.pool.Get(len(payload))[:0], payload...)
	t.dataBytes += len(payload)
}

// overdue returns the oldest entry, if it was last heard life ago; otherwise nil, and when to look
// again.
func (t *halfOpens) overdue(now mono.Time, life time.Duration) (h *halfOpen, wake mono.Time) {
	if t.oldest == none {
		return nil, mono.Never
	}
	h = &t.list[t.oldest]
	if due := h.heard.Add(life); !due.Reached(now) {
		return nil, max(due, now.Add(expireRest))
	}
	return h, mono.Never
}

// within reports whether v is at or after base, by less than halfOpenWindow.
func within(v, base seqnum.Value) bool { return uint32(v-base) < halfOpenWindow }

// verdict is what a segment says about a half-open connection.
type verdict uint8

const (
	other    verdict = iota // nothing: it may belong to another connection with the same tuple
	waits                   // it belongs to the connection, which stays half-open
	complete                // the connection is established, or production's server has accepted it
	failed                  // there will be no connection
)

// fromClient judges a segment of the client that is not a SYN. The third segment of the handshake,
// or a later one, acknowledges the server's SYN, which a stranger cannot guess. Where the capture
// does not show the server's segments, the client's number alone must do.
func (h *halfOpen) fromClient(s *packet.Segment) verdict {
	switch {
	case !within(s.Seq, h.isn+1):
		return other
	case s.Flags.Has(packet.RST):
		return failed
	case !s.Flags.Has(packet.ACK):
		return waits
	case h.answered && !within(s.Ack, h.serverISN+1):
		return other
	}
	return complete
}

// fromServer judges a segment of the server. rival reports that an older connection with the same
// tuple lives: the segment may be that one's.
func (h *halfOpen) fromServer(s *packet.Segment, rival bool) verdict {
	acked := s.Flags.Has(packet.ACK) && within(s.Ack, h.isn+1)
	switch {
	case !acked:
		return other
	case s.Flags.Has(packet.SYN):
		h.serverISN, h.answered = s.Seq, true
		if s.Ack != h.isn+1 {
			return complete // it has accepted the SYN's data (RFC 7413)
		}
		return waits
	case s.Flags.Has(packet.RST):
		return failed
	case h.answered && !within(s.Seq, h.serverISN+1), !h.answered && rival:
		return other
	case s.Len > 0, s.Flags.Has(packet.FIN), s.Ack != h.isn+1:
		return complete
	}
	return waits
}

// syn returns the SYN, with its payload.
func (h *halfOpen) syn(data []byte) Packet {
	return Packet{At: h.at, Service: h.service, Ifindex: h.ifindex, Seg: packet.Segment{
		Src: h.key.Client(), Dst: h.key.Server(), Seq: h.isn, Flags: h.flags, Window: h.window,
		Opts: packet.Options{MSS: h.mss, WScale: h.wscale, HasWScale: h.hasWScale,
			SACKPermitted: h.sackPermitted, HasTS: h.hasTS, TSVal: h.tsVal},
		Payload: data, Len: int(h.dataLen)}}
}

// synAck returns the server's SYN-ACK.
func (h *halfOpen) synAck() Packet {
	return Packet{At: h.at, Service: h.service, FromServer: true, Seg: packet.Segment{
		Src: h.key.Server(), Dst: h.key.Client(), Seq: h.serverISN, Ack: h.isn + 1,
		Flags: packet.SYN | packet.ACK}}
}

// halfOpen takes in the SYN of a new connection. old is the first copy of an older connection with
// the same tuple; nil if there is none. It goes on until the new connection is established: the
// SYN may be a stranger's.
func (sh *Shard) halfOpen(key *Tuple, p *Packet, old *entry) {
	t := &sh.half
	if h := t.get(key); h != nil {
		switch {
		case h.isn != p.Seg.Seq:
			sh.forget(h)
		case h.ifindex != p.Ifindex && h.hasTS && h.tsVal == p.Seg.Opts.TSVal:
			sh.count.Packets.Twice++
			return
		default:
			t.refresh(h, sh.now)
			return
		}
	}
	if sh.cfg.Services[p.Service].Closed {
		return
	}
	if len(t.byTuple) == t.most {
		sh.forget(&t.list[t.oldest])
	}
	for e := old; e != nil; e = e.copy {
		e.rival = true
	}
	h, o := t.add(key), &p.Seg.Opts
	h.at, h.heard, h.isn, h.flags = p.At, sh.now, p.Seg.Seq, p.Seg.Flags
	h.service, h.ifindex, h.window = p.Service, p.Ifindex, p.Seg.Window
	h.mss, h.wscale, h.hasWScale, h.sackPermitted = o.MSS, o.WScale, o.HasWScale, o.SACKPermitted
	h.hasTS, h.tsVal, h.dataLen = o.HasTS, o.TSVal, int32(p.Seg.Len)
	t.keep(sh, h, p.Seg.Payload)
}

// rivalOf returns the half-open connection with the tuple of e; nil if there is none. e is the
// first copy of an older connection, or nil.
func (sh *Shard) rivalOf(key *Tuple, e *entry) *halfOpen {
	if e != nil && !e.rival {
		return nil
	}
	h := sh.half.get(key)
	if h == nil && e != nil {
		e.rival = false
	}
	return h
}

// establish makes the sessions of a connection that was half-open, as if its SYN had just come, and
// returns the first of them; or nil if the connection is not copied. It replaces old.
func (sh *Shard) establish(h *halfOpen, old *entry) *entry {
	syn, synAck, answered := h.syn(nil), h.synAck(), h.answered
	key := h.key
	data := sh.half.remove(h)
	syn.Seg.Payload = data
	sh.supersede(old)
	e := sh.admit(key, &syn)
	sh.hand(e, &syn)
	if answered {
		sh.hand(e, &synAck)
	}
	if data != nil {
		sh.pool.Put(data)
	}
	return e
}

// forget counts a half-open connection that was not established, and removes it.
func (sh *Shard) forget(h *halfOpen) {
	sh.count.NoHandshake++
	if data := sh.half.remove(h); data != nil {
		sh.pool.Put(data)
	}
}

// expireHalfOpen forgets the connections that have been half-open for too long, and returns when it
// has to be called again.
func (sh *Shard) expireHalfOpen() mono.Time {
	for {
		h, wake := sh.half.overdue(sh.now, halfOpenLife)
		if h == nil {
			return wake
		}
		sh.forget(h)
	}
}

// endHalfOpen forgets all half-open connections. It is called when the capture has ended.
func (sh *Shard) endHalfOpen() {
	for sh.half.oldest != none {
		sh.forget(&sh.half.list[sh.half.oldest])
	}
}
