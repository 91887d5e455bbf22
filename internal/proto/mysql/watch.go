package mysql

import "tcpcopy/internal/proto"

// watcher reads what a client of production sends, and changes nothing: see Protocol.Watch. A
// connection found under way it does not read: how production ends its results is agreed at the
// login.
type watcher struct {
	packet  framer
	phase   phase
	login   []byte // the payload of the client's login
	command uint8
	number  uint8 // sequence id of the next packet of a command
}

var _ proto.Client = (*watcher)(nil)

// Edits is of proto.Client.
func (w *watcher) Edits() bool { return false }

// Holds is of proto.Client.
func (w *watcher) Holds() bool { return false }

// Expects is of proto.Client.
func (w *watcher) Expects() bool { return false }

// Kept is of proto.Client.
func (w *watcher) Kept([]byte, *proto.Out) error { return nil }

// Server is of proto.Client.
func (w *watcher) Server(uint64, []byte) {}

// Begin is of proto.Client.
func (w *watcher) Begin(adopted bool, _ *proto.Out) error {
	if *w = (watcher{}); adopted {
		return lost("connection found under way", adopted)
	}
	return nil
}

// Feed is of proto.Client.
func (w *watcher) Feed(p []byte, _ uint64, out *proto.Out) error {
	for len(p) > 0 {
		used, err := w.step(p, out)
		if err != nil {
			return err
		}
		p = p[used:]
	}
	return nil
}

// step reads bytes of one packet.
func (w *watcher) step(p []byte, out *proto.Out) (used int, err error) {
	if !w.packet.open {
		n, whole := w.packet.start(p)
		out.Pass(n)
		if used = n; !whole {
			return used, nil
		}
		if err := w.begin(); err != nil {
			return used, err
		}
	}
	n, _ := w.packet.look(p[used:], 1)
	at := used
	used += n
	if !w.packet.more && w.phase == commands && w.packet.have > 0 {
		w.command = w.packet.head[0]
	}
	n, whole := w.packet.pass(len(p) - used)
	used += n
	out.Pass(used - at)
	if w.phase == greeted {
		w.login = append(w.login, p[at:used]...)
	}
	if whole && w.packet.end() {
		return used, w.finish(out)
	}
	return used, nil
}

// begin judges a packet by its header.
func (w *watcher) begin() error {
	seq := w.packet.seq
	switch {
	case w.phase == greeted:
		if seq != 1 || w.packet.length > loginMost {
			return lost("login, with a packet of the number", seq)
		}
	case w.packet.more:
		if seq != w.number && w.phase == commands {
			return lost("number of a packet", seq)
		}
	case seq == 0 && w.packet.length > 0:
		w.phase = commands
	case w.phase == commands && w.command != comChangeUser:
		return lost("number of a command's first packet", seq)
	default: // a part of the login
		w.phase = authenticating
	}
	w.number = seq + 1
	return nil
}

// finish ends a packet that no other one continues.
func (w *watcher) finish(out *proto.Out) error {
	switch w.phase {
	case greeted:
		who, err := parseResponse(w.login)
		if err != nil || !who.known {
			return lost("login of length", len(w.login))
		}
		r := proto.Request{Class: comConnect, Hint: hintLogin}
		if who.caps&capDeprecateEOF == 0 {
			r.Hint = hintOldLogin
		}
		w.phase, w.login, w.command = authenticating, nil, comChangeUser
		out.Request(r)
	case commands:
		f := &forms[w.command]
		if !f.known {
			return lost("command", w.command)
		}
		r := f.request(w.command)
		if w.command == comChangeUser {
			r.Hint = hintLogin
		}
		out.Request(r)
	}
	return nil
}
