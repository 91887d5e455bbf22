package websocket

import "tcpcopy/internal/proto"

// What one item of the queue takes, and a reader of compressed messages, in bytes.
const (
	itemCost   = 250
	readerCost = 44 << 10
)

var _ proto.Sizer = (*Client)(nil)

// Size is of proto.Sizer.
func (c *Client) Size() int {
	n := c.held + c.earlySize + itemCost*cap(c.list) + cap(c.head) + c.server.ahead.Size() +
		8*cap(c.server.ends) + cap(c.server.head) + cap(c.target.head) + cap(c.inflater.packed) +
		cap(c.inflater.last)
	if c.inflater.reader != nil {
		n += readerCost
	}
	return n
}
