package http1

import (
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/semantics"
)

type requestState uint8

const (
	requestStart requestState = iota
	requestHeaders
	requestBody
	requestsOver // nothing more is read
)

// The methods, as values of Request.Class.
const (
	Other uint8 = iota
	Get
	Head
	Post
	Put
	Delete
	Connect
	Options
	Patch
)

// Methods holds the methods' names, by their values.
var Methods = [...]string{Other: "other", Get: "GET", Head: "HEAD", Post: "POST", Put: "PUT",
	Delete:  "DELETE",
	Connect: "CONNECT", Options: "OPTIONS", Patch: "PATCH"}

// Client reads a client's requests and changes nothing: see proto.Client.
type Client struct {
	lines    liner
	head     head
	body     body
	state    requestState
	method   uint8
	expected bool // an upgrade was requested: the next bytes may be of another protocol
}

var _ proto.Client = (*Client)(nil)

// NewClient returns a reader for one session that changes nothing.
func NewClient() *Client { return &Client{} }

// Edits is of proto.Client: it returns false.
func (c *Client) Edits() bool { return false }

// Begin is of proto.Client.
func (c *Client) Begin(bool, *proto.Out) error {
	*c = Client{}
	return nil
}

// Feed is of proto.Client.
func (c *Client) Feed(p []byte, _ uint64, out *proto.Out) error {
	for len(p) > 0 && c.state != requestsOver {
		used, done, err := c.step(p)
		out.Pass(used)
		p = p[used:]
		if err != nil && c.expected {
			out.Request(proto.Request{Reply: proto.Switch})
			err, c.state = nil, requestsOver
		}
		if err != nil {
			c.state = requestsOver
			return err
		}
		if done {
			out.Request(c.request())
			c.state = requestStart
			c.lines.reset()
		}
	}
	out.Pass(len(p))
	return nil
}

// request returns the request that has ended.
func (c *Client) request() proto.Request {
	r := proto.Request{Class: c.method}
	switch c.method {
	case Head:
		r.Hint = hintHead
	case Connect:
		r.Hint = hintConnect
	}
	c.expected = c.head.upgrade || c.method == Connect
	return r
}

// step reads some of p, and reports whether a request ends there.
func (c *Client) step(p []byte) (used int, done bool, err error) {
	if c.state == requestBody {
		used, err = c.body.feed(p, &c.lines)
		return used, c.body.state == bodyNone, err
	}
	if c.expected && c.lines.kept == 0 && !semantics.IsToken(p[0]) && p[0] != '\r' && p[0] != '\n' {
		return 0, false, lost("request after an upgrade", p[:1])
	}
	var ln line
	used, ok, err := c.lines.next(p, &ln)
	if err != nil {
		return used, false, err
	}
	if !ok {
		const most = semantics.MaxMethod
		if c.state == requestStart && c.lines.kept > most && methodEnd(c.lines.buf[:]) < 0 {
			err = lost("request line", c.lines.buf[:most])
		}
		return used, false, err
	}
	switch {
	case c.state == requestStart && ln.len == 0: // RFC 9112 §2.2: an empty line before a request
		c.lines.reset()
	case c.state == requestStart:
		m, err := requestLine(&ln)
		if err != nil {
			return used, false, err
		}
		c.expected = false
		c.method = methodOf(ln.head[:m])
		c.head.reset(ln.tail[len(ln.tail)-1])
		c.state = requestHeaders
	case ln.len == 0:
		return c.headersEnd(used)
	default:
		_, err = c.head.field(&ln)
	}
	return used, false, err
}

// headersEnd begins the body (RFC 9112 §6.3). It returns used, and whether the request ends here.
func (c *Client) headersEnd(used int) (int, bool, error) {
	h := &c.head
	if h.coded && (!h.chunked || h.length >= 0 || h.old) {
		return used, false, lost("length of a request", []byte("Transfer-Encoding"))
	}
	c.lines.reset()
	c.body.begin(h)
	c.state = requestBody
	return used, c.body.state == bodyNone, nil
}

func methodOf(p []byte) uint8 {
	for i, m := range Methods {
		if string(p) == m {
			return uint8(i)
		}
	}
	return Other
}

// Kept is of proto.Client: no hint has Keep.
func (c *Client) Kept([]byte, *proto.Out) error { return nil }

// Holds is of proto.Client.
func (c *Client) Holds() bool { return false }

// Expects is of proto.Client.
func (c *Client) Expects() bool { return c.state == requestBody && c.head.expect }

// Server is of proto.Client.
func (c *Client) Server(uint64, []byte) {}
