package websocket

import "tcpcopy/internal/core/ledger"

// NewStream returns a reader of what one client sends on a stream of HTTP/2 that was opened for
// WebSocket (RFC 8441). It is at the first frame: Begin is not called. What passes on the stream
// takes the place of the connection's bytes, and Accept that of the target's answer.
func NewStream() *Client {
	c := &Client{shared: true, asking: true, framed: true, fresh: true, requests: 1}
	c.server.upgraded = true
	return c
}

// NewStreamAnswers returns a reader of what a server sends on a stream of HTTP/2 for WebSocket.
func NewStreamAnswers() *Answers { return &Answers{} }

// Accept notes that the target has accepted the stream, and the value of its
// Sec-WebSocket-Extensions. What production has agreed to is not known.
func (c *Client) Accept(extensions []byte) error {
	t := &c.target
	t.agreed.read(extensions)
	t.answered, t.upgraded = 1, true
	return c.feedEarly()
}

// Lose notes that production's bytes cannot be read any more.
func (c *Client) Lose() { c.server.lose() }

// Differs is the reason for which a client is left out that production has accepted, and the target
// has not.
func Differs() ledger.Reason { return upgradeDiffers }
