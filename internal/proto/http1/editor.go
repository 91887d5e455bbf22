package http1

import (
	"fmt"

	"tcpcopy/internal/ledger"
	"tcpcopy/internal/proto"
)

// maxEdited bounds the head of a request that may have to be changed, in bytes: it is kept until it is whole.
const maxEdited = 256 << 10

// keepRoom is how much room for a head is kept between two requests.
const keepRoom = 4 << 10

// Editor is a Client that leaves requests out, and changes headers, as its Rules say.
type Editor struct {
	rules   *Rules
	client  Client
	head    []byte // of the request under way, until it is whole
	denied  bool   // the request under way is left out
	through bool   // another protocol from here on
	text    []byte
}

var _ proto.Client = (*Editor)(nil)

// NewEditor returns a reader for one session. The rules are shared, and do not change.
func NewEditor(rules *Rules) *Editor { return &Editor{rules: rules} }

// Edits is of proto.Client.
func (e *Editor) Edits() bool { return true }

// Begin is of proto.Client.
func (e *Editor) Begin(bool, *proto.Out) error {
	*e = Editor{rules: e.rules, head: e.head[:0], text: e.text[:0]}
	return nil
}

// Feed is of proto.Client.
func (e *Editor) Feed(p []byte, _ uint64, out *proto.Out) error {
	for len(p) > 0 && !e.through {
		inHead := e.client.state != requestBody
		used, done, err := e.client.step(p)
		if inHead {
			e.head = append(e.head, p[:used]...)
		} else {
			e.put(used, out)
		}
		p = p[used:]
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
		if inHead {
			if err := e.headEnd(out); err != nil {
				return err
			}
		}
		if done {
			e.requestEnd(out)
		}
	}
	if e.through {
		e.put(len(p), out)
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

// headEnd decides on a request whose head is whole.
func (e *Editor) headEnd(out *proto.Out) error {
	if e.client.state != requestBody {
		if len(e.head) > maxEdited {
			return fmt.Errorf("http1: %w: headers of more than %d bytes, which would have to be changed", proto.ErrLost, maxEdited)
		}
		return nil
	}
	e.denied = !e.rules.passes(e.head)
	if e.denied || len(e.rules.Set) == 0 {
		e.put(len(e.head), out)
	} else {
		e.text = e.rules.appendHead(e.text[:0], e.head)
		out.Replace(len(e.head), e.text)
	}
	e.head = e.head[:0]
	if cap(e.head) > keepRoom {
		e.head, e.text = nil, nil
	}
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

// Server is of proto.Client.
func (e *Editor) Server(uint64, []byte) {}
