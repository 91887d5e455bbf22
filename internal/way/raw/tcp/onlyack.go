package tcp

// OnlyAck reports whether all that Poll would send now is the acknowledgment of data that arrived
// in order, on a connection with nothing else under way. The owner may delay such a Poll for as
// long as an ACK may be delayed (RFC 9293 §3.8.6.3) if it knows that the target does not wait for
// the ACK, which then travels with the next data.
func (c *Conn) OnlyAck() bool {
	return c.phase == phaseEstablished && c.ack == ackDue && c.dupAckOut == 0 && len(c.ooo) == 0 &&
		c.dsack.empty() && c.flight.len() == 0 && c.nxt == c.released && c.finAt == 0 &&
		c.rcvFin == 0
}
