package tcp

// OnlyAck says that all that Poll would send now is the acknowledgment of data that came in order, on a
// connection with nothing else under way. Its owner may hold such a Poll back for as long as an ACK may be
// delayed (RFC 9293 §3.8.6.3), if it knows that the target does not wait for the ACK: it goes along with the
// next data then.
func (c *Conn) OnlyAck() bool {
	return c.phase == phaseEstablished && c.ack == ackDue && c.dupAckOut == 0 && len(c.ooo) == 0 &&
		c.dsack.empty() && c.flight.len() == 0 && c.nxt == c.released && c.finAt == 0 && c.rcvFin == 0
}
