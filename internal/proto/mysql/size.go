package mysql

import "tcpcopy/internal/proto"

var _ proto.Sizer = (*Client)(nil)

// What a prepared statement takes in the table, about, and what a numbered takes, in bytes.
const (
	statementCost = 28
	numberedCost  = 16
)

// Size is of proto.Sizer.
func (c *Client) Size() int {
	x := &c.statements
	return len(x.byNumber)*statementCost + 4*cap(x.asked) +
		numberedCost*(cap(x.told)+cap(x.counted)) + cap(c.whole) + cap(c.answers.payload) +
		cap(c.who.attrs)
}
