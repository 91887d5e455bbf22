package http1

import (
	"fmt"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/semantics"
)

// maxEdited bounds the request line and headers that an Editor collects, in bytes.
const maxEdited = 256 << 10

// Editor is a Client that leaves requests out and changes headers according to its Rules.
type Editor struct {
	rules   *semantics.Rules
	client  Client
	head    []byte // the unfinished request line and headers, from earlier calls of Feed
	denied  bool   // the present request is left out
	through bool   // another protocol follows: all bytes pass
}

var (
	_ proto.Client = (*Editor)(nil)
	_ proto.Sizer  = (*Editor)(nil)
)

// NewEditor returns a reader for one session. The rules are shared, and must not change.
func NewEditor(rules *semantics.Rules) *Editor { return &Editor{rules: rules} }

// Edits is of proto.Client.
func (e *Editor) Edits() bool { return true }

// Size is of proto.Sizer.
func (e *Editor) Size() int { return cap(e.head) }

// Begin is of proto.Client.
func (e *Editor) Begin(bool, *proto.Out) error {
	*e = Editor{rules: e.rules}
	return nil
}

// Feed is of proto.Client.
func (e *Editor) Feed(p []byte, _ uint64, out *proto.Out) error {
	from := 0 // p[from:] is undecided
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

// keep adds a part to the head.
func (e *Editor) keep(p []byte) error {
	if len(e.head)+len(p) > maxEdited {
		return fmt.Errorf("http1: %w: headers of more than %d bytes, too many to change",
			proto.ErrLost, maxEdited)
	}
	if len(p) > 0 {
		e.head = append(e.head, p...)
	}
	return nil
}

// put passes n bytes, or drops them if their request is denied.
func (e *Editor) put(n int, out *proto.Out) {
	if e.denied {
		out.Drop(n, ledger.Denied)
	} else {
		out.Pass(n)
	}
}

// headEnd decides what to do with a request whose headers are whole; last is their last part. Most
// come in one part. No buffer is kept between requests, so that idle sessions hold none.
func (e *Editor) headEnd(last []byte, out *proto.Out) error {
	head := last
	if len(e.head) > 0 || len(last) > maxEdited {
		if err := e.keep(last); err != nil {
			return err
		}
		head = e.head
	}
	e.head = nil
	e.denied = !e.rules.Passes(methodPath(head))
	if e.denied || len(e.rules.Set) == 0 {
		e.put(len(head), out)
		return nil
	}
	from := len(out.Text)
	out.Text = appendHead(e.rules, out.Text, head)
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

// Kept is of proto.Client: no hint has Keep.
func (e *Editor) Kept([]byte, *proto.Out) error { return nil }

// Holds is of proto.Client.
func (e *Editor) Holds() bool { return false }

// Expects is of proto.Client.
func (e *Editor) Expects() bool { return e.client.Expects() }

// Server is of proto.Client.
func (e *Editor) Server(uint64, []byte) {}
