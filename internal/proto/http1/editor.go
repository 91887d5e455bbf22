package http1

import (
	"fmt"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
)

// maxEdited bounds the head of a request that may have to be changed, in bytes: it is kept until it is whole.
const maxEdited = 256 << 10

// Editor is a Client that leaves requests out, and changes headers, as its Rules say.
type Editor struct {
	rules   *Rules
	client  Client
	head    []byte // of the request under way, as far as it came before, until it is whole
	denied  bool   // the request under way is left out
	through bool   // another protocol from here on
}

var _ proto.Client = (*Editor)(nil)

// NewEditor returns a reader for one session. The rules are shared, and do not change.
func NewEditor(rules *Rules) *Editor { return &Editor{rules: rules} }

// Edits is of proto.Client.
func (e *Editor) Edits() bool { return true }

// Begin is of proto.Client.
func (e *Editor) Begin(bool, *proto.Out) error {
	*e = Editor{rules: e.rules}
	return nil
}

// Feed is of proto.Client.
func (e *Editor) Feed(p []byte, _ uint64, out *proto.Out) error {
	from := 0 // where begins what nothing is decided of
	for at := 0; at < len(p) && !e.through; {
		inHead := e.client.state != requestBody
		used, done, err := e.client.step(p[at:])
		at += used
		if err != nil && e.client.expected {
			out.Request(proto.Request{Reply: proto.Switch})
			e.through = true
			e.put(len(e.head), out)
			e.head = nil
			break
		}
		if err != nil {
			return err
		}
		if !inHead {
			e.put(used, out)
			from = at
		} else if e.client.state == requestBody {
			if err := e.headEnd(p[from:at], out); err != nil {
				return err
			}
			from = at
		}
		if done {
			e.requestEnd(out)
		}
	}
	if e.through {
		e.put(len(p)-from, out)
		return nil
	}
	return e.keep(p[from:])
}

// keep keeps a part of a head.
func (e *Editor) keep(p []byte) error {
	if len(e.head)+len(p) > maxEdited {
		return fmt.Errorf("http1: %w: headers of more than %d bytes, which would have to be changed", proto.ErrLost, maxEdited)
	}
	if len(p) > 0 {
		e.head = append(e.head, p...)
	}
	return nil
}

// put passes n bytes on, or leaves them out with the request that they belong to.
func (e *Editor) put(n int, out *proto.Out) {
	if e.denied {
		out.Drop(n, ledger.Denied)
	} else {
		out.Pass(n)
	}
}

// headEnd decides on a request whose head is whole; last is the end of it. Most heads come in one piece, and none
// is kept between two requests: idle sessions hold no buffers.
func (e *Editor) headEnd(last []byte, out *proto.Out) error {
	head := last
	if len(e.head) > 0 || len(last) > maxEdited {
		if err := e.keep(last); err != nil {
			return err
		}
		head = e.head
	}
	e.head = nil
	e.denied = !e.rules.passes(head)
	if e.denied || len(e.rules.Set) == 0 {
		e.put(len(head), out)
		return nil
	}
	from := len(out.Text)
	out.Text = e.rules.appendHead(out.Text, head)
	out.ReplaceFrom(len(head), from)
	return nil
}

// requestEnd ends a request.
func (e *Editor) requestEnd(out *proto.Out) {
	r := e.client.request()
	if e.denied {
		out.Refuse(ledger.Denied)
	} else {
		out.Request(r)
	}
	e.client.state = requestStart
	e.client.lines.reset()
}

// Kept is of proto.Client: no answer's bytes are asked for.
func (e *Editor) Kept([]byte, *proto.Out) error { return nil }

// Holds is of proto.Client.
func (e *Editor) Holds() bool { return false }

// Expects is of proto.Client.
func (e *Editor) Expects() bool { return e.client.Expects() }

// Server is of proto.Client.
func (e *Editor) Server(uint64, []byte) {}
