package mysql

import "tcpcopy/internal/proto"

// Kept is of proto.Client.
func (c *Client) Kept(p []byte, out *proto.Out) error {
	for len(p) > 0 && c.phase != gone {
		var used int
		var err error
		if c.target == nil || c.dialogue != nil {
			used, err = c.loginBytes(p, out)
		} else {
			used, err = c.statements.answer(p, c.caps&capDeprecateEOF != 0)
			c.hold = c.hold && c.statements.waiting()
		}
		if err != nil {
			c.phase = gone
			return err
		}
		p = p[used:]
	}
	return nil
}

// loginBytes reads bytes of the target that belong to a login.
func (c *Client) loginBytes(p []byte, out *proto.Out) (used int, err error) {
	used, whole, err := c.answers.step(p)
	if err != nil || !whole {
		return used, err
	}
	seq, payload := c.answers.seq, c.answers.payload
	c.answers = packets{}
	if c.target != nil {
		return used, c.message(seq, payload, out)
	}
	if len(payload) > 0 && payload[0] == 0xff {
		return used, refused(payload)
	}
	h, ok := parseHello(payload)
	if !ok || !h.upper {
		return used, lost("greeting of length", len(payload))
	}
	c.target = &h
	c.hold = false
	return used, nil
}

// Server is of proto.Client.
func (c *Client) Server(off uint64, p []byte) {
	if off == 0 && c.phase == greeted && len(p) > headerLen && p[3] == 0 {
		if h, ok := parseHello(p[headerLen:]); ok {
			c.production = h
		}
		return
	}
	c.statements.captured(off, p)
}

// packets collects a whole packet.
type packets struct {
	framer
	payload []byte
}

// step reads bytes up to the end of a packet, and reports whether it is whole.
func (k *packets) step(p []byte) (used int, whole bool, err error) {
	if !k.open {
		n, ok := k.start(p)
		if used = n; !ok {
			return used, false, nil
		}
	}
	if k.length > loginMost {
		return used, false, lost("length of a packet", k.length)
	}
	n, whole := k.pass(len(p) - used)
	k.payload = append(k.payload, p[used:used+n]...)
	return used + n, whole, nil
}
