package redis

import "tcpcopy/internal/proto"

// wordLen is how many bytes of a word are kept: no word that matters is longer.
const wordLen = 24

// word holds the beginning of an argument.
type word struct {
	len int
	buf [wordLen]byte
}

func (w *word) add(p []byte) {
	if w.len < wordLen {
		copy(w.buf[w.len:], p)
	}
	w.len += len(p)
}

// is reports whether the word equals s, which is in upper case, in any case.
func (w *word) is(s string) bool {
	if w.len != len(s) {
		return false
	}
	for i := range w.len {
		c := w.buf[i]
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != s[i] {
			return false
		}
	}
	return true
}

// reader finds commands.
type reader struct {
	line  liner
	args  int64   // arguments of the present command; 0 between two, -1 if not known (inline)
	arg   int64   // those of them that are whole
	bulk  int64   // bytes of the argument and its CRLF that follow
	words [3]word // the command's name, and the arguments behind it
	empty bool    // what has ended is no command: an empty line or array
}

// step reads some of p, and reports whether a command, or an empty line, ends there.
func (r *reader) step(p []byte) (used int, done bool, err error) {
	if r.bulk > 0 {
		n := int(min(r.bulk, int64(len(p))))
		text := p[:max(0, min(int64(n), r.bulk-2))]
		if r.arg < int64(len(r.words)) {
			r.words[r.arg].add(text)
		}
		if r.bulk -= int64(n); r.bulk == 0 {
			r.arg++
		}
		return n, r.bulk == 0 && r.arg == r.args, nil
	}
	head, whole, used, ok, err := r.line.next(p)
	if err != nil || !ok {
		return used, false, err
	}
	if r.args == 0 {
		done, err = r.begin(head, whole)
		return used, done, err
	}
	if len(head) == 0 || head[0] != '$' || !whole || !r.line.crlf {
		return used, false, lost("argument", head)
	}
	n, isNumber := number(head[1:])
	if !isNumber || n < 0 || n > maxBulk {
		return used, false, lost("length of an argument", head)
	}
	r.bulk = n + 2
	return used, false, nil
}

// begin reads the first line of a command.
func (r *reader) begin(head []byte, whole bool) (done bool, err error) {
	r.arg, r.empty = 0, false
	for i := range r.words {
		r.words[i].len = 0
	}
	if len(head) > 0 && head[0] == '*' {
		n, ok := number(head[1:])
		if !ok || !whole || !r.line.crlf || n > maxArgs {
			return false, lost("number of arguments", head)
		}
		r.args = max(n, 0)
		r.empty = n <= 0
		return r.empty, nil
	}
	words, err := r.inline(head, whole)
	r.args = int64(words)
	r.empty = words == 0
	return true, err
}

// end prepares for the next command.
func (r *reader) end() { r.args, r.arg = 0, 0 }

// Client reads a client's commands and changes nothing: see proto.Client.
type Client struct {
	reader
	off   bool // after CLIENT REPLY OFF
	skip  bool // after CLIENT REPLY SKIP: the next command has no reply
	multi bool // after MULTI
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
	for len(p) > 0 {
		used, done, err := c.step(p)
		out.Pass(used)
		p = p[used:]
		if err != nil {
			return err
		}
		if done {
			if !c.empty {
				out.Request(proto.Request{Reply: c.reply()})
			}
			c.end()
		}
	}
	return nil
}

// reply returns what follows the command that has ended.
func (c *Client) reply() proto.Reply {
	skip := c.skip
	c.skip = false
	switch n := &c.words[0]; {
	case n.is("SUBSCRIBE"), n.is("PSUBSCRIBE"), n.is("SSUBSCRIBE"), n.is("UNSUBSCRIBE"),
		n.is("PUNSUBSCRIBE"),
		n.is("SUNSUBSCRIBE"), n.is("MONITOR"), n.is("SYNC"), n.is("PSYNC"):
		return proto.Push
	case n.is("CLIENT") && c.words[1].is("REPLY"):
		return c.clientReply(skip)
	case n.is("MULTI"):
		c.multi = true
	case n.is("EXEC"), n.is("DISCARD"):
		c.multi = false
	case n.is("RESET"):
		c.multi, c.off = false, false
	}
	if c.off || skip {
		return proto.Nothing
	}
	return proto.One
}

// clientReply returns what follows CLIENT REPLY, which also sets what follows later commands. skip
// reports whether the command before was CLIENT REPLY SKIP.
func (c *Client) clientReply(skip bool) proto.Reply {
	how := &c.words[2]
	switch {
	case c.multi || c.args < 0: // it takes effect with EXEC, or not at all: that is not followed
		return proto.Switch
	case c.args == 3 && how.is("ON"):
		c.off = false
		return proto.One
	case c.args == 3 && how.is("OFF"):
		c.off = true
		return proto.Nothing
	case c.args == 3 && how.is("SKIP"):
		c.skip = !c.off
		return proto.Nothing
	case c.off || skip:
		return proto.Nothing
	default: // an error
		return proto.One
	}
}

// Kept is of proto.Client: no hint has Keep.
func (c *Client) Kept([]byte, *proto.Out) error { return nil }

// Holds is of proto.Client.
func (c *Client) Holds() bool { return false }

// Expects is of proto.Client: the protocol has no interim answers.
func (c *Client) Expects() bool { return false }

// Server is of proto.Client.
func (c *Client) Server(uint64, []byte) {}
