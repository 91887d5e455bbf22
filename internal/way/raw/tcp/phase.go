package tcp

// phase is a state of RFC 9293 §3.3.2, or a sub-state of CLOSED. TIME-WAIT is not held: the
// connection is over at once (see AckFor).
//
// A phase has sub-states. In SYN-SENT the SYN is sent, due with the next Poll, or held until Leave;
// an old connection with the same addresses has answered it (old), or is about to be freed by a RST
// (free). In SYN-RECEIVED the SYN-ACK is sent or due. In ESTABLISHED and CLOSE-WAIT a FIN may be
// queued behind released bytes (fin); one that is queued earlier waits for ESTABLISHED. CLOSED is
// new until Open; later a RST (reset) or the ACK of the target's FIN (ack) may be left to send.
//
// The table lists what the owner's calls, the target's segments and the timers do. The action is
// what Poll sends; for the other events, whether an ACK becomes due. In the sub-states due, held
// and free no SYN was sent yet, unless the event says so ("first SYN"). Segments are acceptable,
// except for the ACK of the old connection, and acknowledge all that was sent, except that data and
// FIN leave our FIN out. A test drives every cell.
//
//	event                    in                                   next               action
//	Open                     closed/new                           syn-sent/due       -
//	                         others                               same               -
//	Open held                closed/new                           syn-sent/held      -
//	                         others                               never              -
//	Poll                     syn-sent/due                         syn-sent           SYN
//	                         syn-sent/old-due                     syn-sent/old       SYN
//	                         syn-sent/free                        syn-sent           RST, SYN
//	                         syn-received/due                     syn-received       SYN-ACK
//	                         established/fin                      fin-wait-1         FIN
//	                         close-wait/fin                       last-ack           FIN
//	                         closed/reset                         closed             RST
//	                         closed/ack                           closed             ACK
//	                         others                               same               -
//	Leave                    syn-sent/held                        syn-sent/due       -
//	                         syn-sent/old-held                    syn-sent/old-due   -
//	                         others                               same               -
//	Release                  others                               same               -
//	CloseWrite               established                          established/fin    -
//	                         close-wait                           close-wait/fin     -
//	                         others                               same               -
//	Abort                    closed*                              same               -
//	                         syn-sent syn-sent/old                closed/reset       -
//	                         syn-sent/due syn-sent/held           closed             -
//	                         syn-sent/old-due                     closed             -
//	                         syn-sent/old-held syn-sent/free      closed             -
//	                         others                               closed/reset       -
//	Abort after first SYN    syn-sent/due syn-sent/held           closed/reset       -
//	                         syn-sent/old-due syn-sent/old-held   closed/reset       -
//	                         others                               never              -
//	FreeOldConnection        syn-sent/old*                        syn-sent/free      -
//	                         others                               same               -
//	SYN-ACK                  syn-sent syn-sent/old                established        ACK due
//	                         syn-received*                        established        ACK due
//	                         closed* syn-sent/due syn-sent/held   same               -
//	                         syn-sent/old-due syn-sent/old-held   same               -
//	                         syn-sent/free                        same               -
//	                         others                               same               ACK due
//	SYN-ACK with FIN queued  syn-sent syn-sent/old                established/fin    ACK due
//	                         syn-received*                        established/fin    ACK due
//	                         others                               never              -
//	SYN-ACK to first SYN     syn-sent/due syn-sent/held           established        ACK due
//	                         syn-sent/old-due syn-sent/old-held   established        ACK due
//	                         others                               never              -
//	SYN                      syn-sent*                            syn-received/due   -
//	                         syn-received*                        syn-received/due   -
//	                         closed*                              same               -
//	                         others                               same               ACK due
//	ACK                      syn-received*                        established        -
//	                         fin-wait-1                           fin-wait-2         -
//	                         closing last-ack                     closed             -
//	                         others                               same               -
//	ACK while one is due     closing last-ack                     closed/ack         -
//	                         others                               never              -
//	ACK of the old           syn-sent                             syn-sent/old       -
//	                         syn-sent/due                         syn-sent/old-due   -
//	                         syn-sent/held                        syn-sent/old-held  -
//	                         closed* syn-sent/old* syn-sent/free  same               -
//	                         syn-received*                        same               -
//	                         others                               same               ACK due
//	data                     closed* syn-sent*                    same               -
//	                         syn-received*                        established        ACK due
//	                         others                               same               ACK due
//	FIN                      closed* syn-sent*                    same               -
//	                         syn-received* established            close-wait         ACK due
//	                         established/fin                      close-wait/fin     ACK due
//	                         fin-wait-1                           closing            ACK due
//	                         fin-wait-2                           closed/ack         ACK due
//	                         others                               same               ACK due
//	FIN with FIN queued      syn-received*                        close-wait/fin     ACK due
//	                         others                               never              -
//	FIN and ACK of ours      fin-wait-1                           closed/ack         ACK due
//	                         others                               never              -
//	RST                      closed*                              same               -
//	                         syn-sent syn-sent/old                closed             -
//	                         syn-sent/due syn-sent/held           same               -
//	                         syn-sent/old-due                     same               -
//	                         syn-sent/old-held syn-sent/free      same               -
//	                         others                               closed             -
//	RST to first SYN         syn-sent/due syn-sent/held           closed             -
//	                         syn-sent/old-due syn-sent/old-held   closed             -
//	                         others                               never              -
//	retransmission           syn-sent syn-sent/old                same               SYN
//	                         syn-received                         same               SYN-ACK
//	                         fin-wait-1 closing last-ack          same               FIN
//	                         syn-sent/held syn-sent/old-held      same               -
//	                         established fin-wait-2 close-wait    same               -
//	                         closed closed/new                    same               -
//	                         others                               never              -
//	retransmission held      syn-sent                             syn-sent/held      -
//	                         syn-sent/old                         syn-sent/old-held  -
//	                         others                               never              -
//	connect timeout          syn-sent syn-sent/old                closed             RST
//	                         syn-received*                        closed             RST
//	                         syn-sent/due syn-sent/held           closed             -
//	                         syn-sent/old-due                     closed             -
//	                         syn-sent/old-held syn-sent/free      closed             -
//	                         others                               never              -
//	timeout after first SYN  syn-sent/due syn-sent/held           closed             RST
//	                         syn-sent/old-due syn-sent/old-held   closed             RST
//	                         others                               never              -
//	user timeout             fin-wait-2                           same               -
//	                         closed* syn-sent* syn-received*      never              -
//	                         others                               closed             RST
type phase uint8

const (
	phaseNew    phase = iota // CLOSED: not opened
	phaseReset               // CLOSED: over, but for a RST that is due
	phaseClosed              // CLOSED: over
	phaseSynSent
	phaseSynReceived // simultaneous open only
	phaseEstablished
	phaseFinWait1
	phaseFinWait2
	phaseCloseWait
	phaseClosing
	phaseLastAck
)

// alive reports whether the connection was opened and is not over.
func (p phase) alive() bool { return p >= phaseSynSent }

// synchronized reports whether the handshake is complete and the connection is not over.
func (p phase) synchronized() bool { return p >= phaseEstablished }

// synState is how the SYN, or the SYN-ACK of a simultaneous open, stands.
type synState uint8

const (
	synSent synState = iota // sent: its retransmission timer runs
	synDue                  // the next Poll sends it
	synHeld                 // due, and waits for Leave
)

// oldState is what is known in SYN-SENT of an old connection with the same addresses.
type oldState uint8

const (
	oldNone     oldState = iota
	oldAnswered          // it has answered our SYN with an ACK (RFC 5961 §4)
	oldFreed             // the next Poll sends it a RST, and the SYN
)

// ackState is which acknowledgment is due.
type ackState uint8

const (
	ackNone  ackState = iota
	ackDue            // it may travel with data
	ackAlone          // it must be a segment of its own
)

// limitState is what held new data back at the last Poll.
type limitState uint8

const (
	limitNone   limitState = iota
	limitCwnd              // the congestion window
	limitWindow            // the target's window
)

// recoveryState is the sender's state in the repair of losses.
type recoveryState uint8

const (
	recoveryOpen recoveryState = iota // nothing is known to be lost
	recoveryFast                      // a loss that acknowledgments have shown is being repaired
	recoveryLoss                      // a loss that a timeout has shown is being repaired
)

// finDue reports whether a FIN is to be sent once all released bytes are.
func (c *Conn) finDue() bool { return c.finAt != 0 && c.nxt <= c.finAt }

// finAcked reports whether the target has acknowledged our FIN.
func (c *Conn) finAcked() bool { return c.finAt != 0 && c.una > c.finAt }

// remoteFIN reports whether the target's FIN and all bytes before it have arrived.
func (c *Conn) remoteFIN() bool { return c.rcvFin != 0 && c.rcvNxt > c.rcvFin }

// sentFIN changes the phase when our FIN is sent.
func (c *Conn) sentFIN() {
	if c.phase == phaseCloseWait {
		c.phase = phaseLastAck
	} else {
		c.phase = phaseFinWait1
	}
}

// settle changes the phase for what a segment has acknowledged and carried (RFC 9293 §3.10.7.4).
// Without a FIN of either side there is nothing to change.
func (c *Conn) settle() {
	acked, theirs := c.finAcked(), c.remoteFIN()
	switch {
	case acked && theirs:
		last := c.ack // of the target's FIN
		c.end(CauseNone)
		c.ack = last
	case theirs && c.phase == phaseEstablished:
		c.phase = phaseCloseWait
	case theirs && c.phase == phaseFinWait1:
		c.phase = phaseClosing
	case acked && c.phase == phaseFinWait1:
		c.phase = phaseFinWait2
	}
}
