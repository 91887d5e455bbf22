package wire

import (
	"encoding/binary"
	"fmt"
)

// AgentCounts are an agent's totals since it started. What it captured and did not send is
// counted by reason.
type AgentCounts struct {
	Sent       uint64 // packets that went into messages
	SentBytes  uint64 // of messages, as they went over the connection
	KernelDrop uint64 // packets that did not fit the capture ring
	NotOurs    uint64 // packets that are not to or from this host, or cannot be read

	ShedCPU      uint64 // packets of sessions that were left out to stay within --max-cpu
	ShedRate     uint64 // the same for --max-mbps
	ShedSessions uint64 // sessions that were left out, in whole or in part

	// OverMemory and LinkDown are packets that found no room to wait, or waited too long: while
	// there was a connection to the copier, and while there was none.
	OverMemory, LinkDown uint64
}

// fields returns the counts in the order in which they are sent. New ones go to the end.
func (c *AgentCounts) fields() [9]*uint64 {
	return [...]*uint64{&c.Sent, &c.SentBytes, &c.KernelDrop, &c.NotOurs, &c.ShedCPU, &c.ShedRate,
		&c.ShedSessions, &c.OverMemory, &c.LinkDown}
}

// Shed returns how many packets were left out to stay within the agent's bounds.
func (c *AgentCounts) Shed() uint64 { return c.ShedCPU + c.ShedRate }

// Unsent returns how many packets could not be sent.
func (c *AgentCounts) Unsent() uint64 { return c.OverMemory + c.LinkDown }

// Since returns what was counted since before. A count that has decreased counts from 0.
func (c *AgentCounts) Since(before *AgentCounts) AgentCounts {
	d := *c
	old := before.fields()
	for i, f := range d.fields() {
		if *f >= *old[i] {
			*f -= *old[i]
		}
	}
	return d
}

// Add adds the counts of d.
func (c *AgentCounts) Add(d *AgentCounts) {
	more := d.fields()
	for i, f := range c.fields() {
		*f += *more[i]
	}
}

func (c *AgentCounts) append(dst []byte) []byte {
	fields := c.fields()
	dst = append(dst, byte(len(fields)))
	for _, f := range fields {
		dst = binary.BigEndian.AppendUint64(dst, *f)
	}
	return dst
}

// decode reads as many counts as there are. An agent of another version may send fewer, or more.
func (c *AgentCounts) decode(cur *cursor) {
	*c = AgentCounts{}
	fields := c.fields()
	for i := range int(cur.u8()) {
		if v := cur.u64(); i < len(fields) {
			*fields[i] = v
		}
	}
}

// Append appends the counts as a frame.
func (c *AgentCounts) Append(dst []byte) []byte {
	start := len(dst)
	return end(c.append(begin(dst, TypeAgentCounts, 0)), start)
}

// Decode reads the body of a message of counts.
func (c *AgentCounts) Decode(body []byte) error {
	cur := cursor{b: body}
	c.decode(&cur)
	return cur.err(TypeAgentCounts)
}

// AgentHello introduces an agent.
type AgentHello struct {
	Version  uint16
	Instance Instance // of this run of the agent
	Name     string   // the host's, for people, at most 255 bytes
	Software string   // for logs, at most 255 bytes
	// Next is the number of the next packet that will be sent. Those before it will not be.
	Next   uint64
	Counts AgentCounts // so far
}

// Append appends the message as a frame.
func (h *AgentHello) Append(dst []byte) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint16(begin(dst, TypeAgentHello, 0), h.Version)
	dst = append(dst, h.Instance[:]...)
	dst = appendText(appendText(dst, h.Name), h.Software)
	dst = binary.BigEndian.AppendUint64(dst, h.Next)
	return end(h.Counts.append(dst), start)
}

// Decode reads the body of an AgentHello. If the version is not this package's, it sets only
// Version and returns no error.
func (h *AgentHello) Decode(body []byte) error {
	c := cursor{b: body}
	*h = AgentHello{Version: c.u16()}
	if h.Version != Version && !c.short {
		return nil
	}
	copy(h.Instance[:], c.bytes(len(h.Instance)))
	h.Name, h.Software, h.Next = c.text(), c.text(), c.u64()
	h.Counts.decode(&c)
	return c.err(TypeAgentHello)
}

// AgentWelcome is the answer to an AgentHello that is accepted. Refuse is the answer to others.
type AgentWelcome struct {
	Version  uint16
	Software string
}

// Append appends the message as a frame.
func (w *AgentWelcome) Append(dst []byte) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint16(begin(dst, TypeAgentWelcome, 0), w.Version)
	return end(appendText(dst, w.Software), start)
}

// Decode reads the body of an AgentWelcome.
func (w *AgentWelcome) Decode(body []byte) error {
	c := cursor{b: body}
	*w = AgentWelcome{Version: c.u16(), Software: c.text()}
	if err := c.err(TypeAgentWelcome); err != nil {
		return err
	}
	if w.Version != Version {
		return fmt.Errorf("%w in agent-welcome: version %d, want %d", ErrValue, w.Version, Version)
	}
	return nil
}
