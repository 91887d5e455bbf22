package agents

import (
	"errors"
	"fmt"
	"time"

	"github.com/klauspost/compress/s2"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/filter"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/wire"
)

// maxSkipped bounds the packets that an agent can have lost at once: more than it captures in a
// day. What it says of them is in the account.
const maxSkipped = 1 << 40

// agent is what is known of one run of an agent. Source.mu guards it.
type agent struct {
	name, software, address string
	serial                  int
	end                     *link.Endpoint // nil: it is not connected
	since                   time.Time
	connects                uint64
	base, counts            wire.AgentCounts // when it first connected here, and now
	next                    uint64           // the number of the next packet that it sends
	packets, lost           uint64
	failure                 string
	last                    mono.Time // of its packets
}

// forgotten is the sum over agents that are not remembered any more.
type forgotten struct {
	packets, lost uint64
	counts        wire.AgentCounts
}

// admit decides on an agent's connection, and returns what serves it.
func (s *Source) admit(end *link.Endpoint, body []byte) (func() error, *wire.Refuse) {
	h := new(wire.AgentHello)
	if err := h.Decode(body); err != nil {
		return nil, &wire.Refuse{Code: wire.CodeMalformed, Text: err.Error()}
	}
	a := s.enter(end, end.Host().String(), h)
	if a == nil {
		return nil, &wire.Refuse{Code: wire.CodeFull, Text: "too many agents"}
	}
	end.Put((&wire.AgentWelcome{Version: wire.Version, Software: s.cfg.Software}).Append(nil))
	return func() error { return s.serve(a, end) }, nil
}

// enter adds an agent, or finds the run that it was, whose older connection is closed. It returns
// nil if there is no room.
func (s *Source) enter(end *link.Endpoint, address string, h *wire.AgentHello) *agent {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.agents[h.Instance]
	if a == nil {
		if len(s.agents) >= maxAgents && !s.forget() {
			return nil
		}
		s.serial++
		a = &agent{serial: s.serial, base: h.Counts, counts: h.Counts, next: h.Next}
		s.agents[h.Instance] = a
	}
	if a.end != nil {
		a.end.Close()
	}
	if h.Next > a.next {
		a.lost += min(h.Next-a.next, maxSkipped)
	}
	a.next, a.counts = h.Next, h.Counts
	a.name, a.software, a.address = h.Name, h.Software, address
	a.end, a.since = end, time.Now()
	a.connects++
	return a
}

// forget sums up the agent that has been gone the longest. It returns false if none is gone. The
// lock is held.
func (s *Source) forget() bool {
	var id wire.Instance
	var oldest *agent
	for i, a := range s.agents {
		if a.end == nil && (oldest == nil || a.since.Before(oldest.since)) {
			id, oldest = i, a
		}
	}
	if oldest == nil {
		return false
	}
	c := oldest.counts.Since(&oldest.base)
	s.gone.packets += oldest.packets
	s.gone.lost += oldest.lost
	s.gone.counts.Add(&c)
	delete(s.agents, id)
	return true
}

// disconnected records that an agent's connection has ended, and why; nil: the source is closed.
func (s *Source) disconnected(a *agent, end *link.Endpoint, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if why != nil {
		a.failure = why.Error()
	}
	if a.end == end {
		a.end, a.since = nil, time.Now()
	}
}

// serve passes on what an agent sends until its connection ends.
func (s *Source) serve(a *agent, end *link.Endpoint) error {
	s.mu.Lock()
	name, from, software := a.name, a.address, a.software
	times := clock{last: a.last}
	s.mu.Unlock()
	s.cfg.Log.Info("agents: an agent connected", "name", name, "from", from, "software", software)
	var err error
	for err == nil {
		var f wire.Frame
		if f, err = end.Receive(); err == nil {
			err = s.handle(a, end, &times, f)
		}
	}
	select {
	case <-s.done:
		s.disconnected(a, end, nil)
		return nil
	default:
	}
	s.disconnected(a, end, err)
	var bye *link.Closed
	if errors.As(err, &bye) && bye.Reason == wire.ByeShutdown {
		s.cfg.Log.Info("agents: an agent has ended", "name", name, "from", from)
	} else {
		s.cfg.Log.Warn("agents: an agent is gone", "name", name, "from", from, "error", err)
	}
	return err
}

// handle handles one message of an agent.
func (s *Source) handle(a *agent, end *link.Endpoint, times *clock, f wire.Frame) error {
	switch f.Type {
	case wire.TypePackets:
		return s.packets(a, end, times, f.Body)
	case wire.TypeAgentCounts:
		var c wire.AgentCounts
		if err := c.Decode(f.Body); err != nil {
			return err
		}
		s.mu.Lock()
		a.counts = c
		s.mu.Unlock()
		return nil
	}
	return f.Unexpected()
}

// packets passes a message of packets to the reader. It waits while too many batches wait.
func (s *Source) packets(a *agent, end *link.Endpoint, times *clock, body []byte) error {
	var p wire.Packets
	if err := p.Decode(body); err != nil {
		return err
	}
	s.mu.Lock()
	next := a.next
	s.mu.Unlock()
	if p.First < next || p.First-next > maxSkipped {
		return fmt.Errorf("%w in packets: number %d, and %d are known",
			wire.ErrValue, p.First, next)
	}
	b := s.batch()
	if err := s.unpack(b, a.serial, &p, times); err != nil {
		s.release(b)
		return err
	}
	s.mu.Lock()
	if a.end != end {
		s.mu.Unlock()
		s.release(b)
		return errors.New("replaced by a newer connection")
	}
	a.lost += p.First - a.next
	a.next = p.First + uint64(p.Count)
	a.packets += uint64(p.Count)
	a.last = times.last
	s.mu.Unlock()
	if len(b.frames) == 0 {
		s.release(b)
		return nil
	}
	select {
	case s.batches <- b:
		return nil
	case <-s.done:
		return source.ErrClosed
	}
}

// unpack fills a batch with the packets of a message of the agent with a serial number.
func (s *Source) unpack(b *batch, serial int, p *wire.Packets, times *clock) error {
	records, err := b.unpack(p)
	if err != nil {
		return err
	}
	now := s.cfg.Now()
	times.message(now, p.Sent)
	r := p.Unpacked(records)
	var rec wire.Record
	for {
		ok, err := r.Next(&rec)
		if err != nil || !ok {
			return err
		}
		f := source.Frame{Data: rec.Data, Wire: rec.Wire, Time: times.at(rec.At, now),
			Ifindex: int32(serial&0x7fff<<16) | int32(rec.Ifindex&0xffff)}
		if len(s.cfg.Filter) > 0 {
			m := filter.Meta{Len: f.Wire}
			if f.Data = f.Data[:s.cfg.Filter.Match(f.Data, &m)]; len(f.Data) == 0 {
				continue
			}
		}
		b.frames = append(b.frames, f)
	}
}

// unpack copies the records out of a message, whose bytes are the connection's.
func (b *batch) unpack(p *wire.Packets) ([]byte, error) {
	if cap(b.raw) < int(p.Size) {
		b.raw = make([]byte, p.Size)
	}
	b.raw = b.raw[:p.Size]
	if p.Packing == wire.Plain {
		copy(b.raw, p.Records)
		return b.raw, nil
	}
	n, err := s2.DecodedLen(p.Records)
	if err != nil || n != int(p.Size) {
		return nil, fmt.Errorf("packed records of %d bytes, and %d are announced: %w",
			n, p.Size, errors.Join(err, wire.ErrValue))
	}
	out, err := s2.Decode(b.raw, p.Records)
	if err != nil {
		return nil, fmt.Errorf("packed records: %w", errors.Join(err, wire.ErrValue))
	}
	b.raw = out
	return out, nil
}
