package http2

import "tcpcopy/internal/proto"

var _ proto.Sizer = (*Client)(nil)

// What a stream, and the end of one, takes, in bytes.
const (
	streamCost  = 640
	endCost     = 16
	partialCost = 48
)

// Size is of proto.Sizer.
func (c *Client) Size() int {
	return c.held + cap(c.opening.head) + cap(c.server.opening.head) + cap(c.block.rest) +
		cap(c.target.block) + c.decoder.Size() +
		c.server.ahead.Size() + endCost*cap(c.server.ends) + streamCost*(len(c.list)+len(c.free)) +
		partialCost*(len(c.server.data.partial)+len(c.target.data.partial))
}
