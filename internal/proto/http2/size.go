package http2

import "tcpcopy/internal/proto"

var _ proto.Sizer = (*Client)(nil)

// What a stream, and the end of one, takes, in bytes.
const (
	streamCost  = 640
	endCost     = 24
	partialCost = 48
	socketCost  = 160
)

// Size is of proto.Sizer.
func (c *Client) Size() int {
	buffers := cap(c.opening.head) + cap(c.server.opening.head) + cap(c.block.rest) +
		cap(c.target.block) + c.decoder.Size() + c.server.ahead.Size() + c.server.pieced
	return c.held + buffers + c.socketsSize() + socketCost*len(c.target.data.sockets) +
		endCost*cap(c.server.ends) + streamCost*(len(c.list)+len(c.free)) +
		partialCost*(len(c.server.data.partial)+len(c.target.data.partial))
}
