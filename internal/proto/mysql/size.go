package mysql

import "tcpcopy/internal/proto"

var _ proto.Sizer = (*Client)(nil)

// statementCost is about what a prepared statement takes in the table, in bytes.
const statementCost = 28

// Size is of proto.Sizer.
func (c *Client) Size() int {
	x := &c.statements
	return len(x.byNumber)*statementCost + 4*cap(x.asked) + cap(c.whole) + cap(c.answers.payload) +
		cap(c.who.attrs)
}
