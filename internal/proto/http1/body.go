package http1

// bodyState is the position of a reader in a message's body.
type bodyState uint8

const (
	bodyNone  bodyState = iota
	bodyPlain           // in a body of known length: left bytes follow
	bodySize            // at a chunk's size
	bodyChunk           // in a chunk's data: left bytes follow
	bodyCRLF            // behind a chunk's data
	bodyTrail           // in the trailers
	bodyToEnd           // in a body that ends with the connection
)

// body reads a message's body (RFC 9112 §6, §7).
type body struct {
	state bodyState
	left  uint64
}

// begin starts the body that the headers describe. If it is empty, the state is bodyNone.
func (b *body) begin(h *head) {
	switch {
	case h.chunked:
		*b = body{state: bodySize}
	case h.length > 0:
		*b = body{state: bodyPlain, left: uint64(h.length)}
	default:
		*b = body{}
	}
}

// feed reads bytes of the body up to its end. lines cuts the lines of chunks; it was reset at the
// start.
func (b *body) feed(p []byte, lines *liner) (used int, err error) {
	for used < len(p) && b.state != bodyNone {
		q := p[used:]
		if n := min(uint64(len(q)), b.blind()); n > 0 {
			b.skip(n)
			used += int(n)
			continue
		}
		n, err := b.framing(q, lines)
		used += n
		if err != nil {
			return used, err
		}
	}
	return used, nil
}

// framing reads bytes that frame the content, up to the end of one line.
func (b *body) framing(p []byte, lines *liner) (used int, err error) {
	var ln line
	used, ok, err := lines.next(p, &ln)
	switch {
	case err != nil:
		return used, err
	case ok:
		return used, b.line(&ln, lines)
	case b.state == bodyCRLF && lines.kept > len("\r"):
		return used, lost("end of a chunk", lines.buf[:1])
	}
	return used, nil
}

// blind returns how many of the next bytes are content.
func (b *body) blind() uint64 {
	switch b.state {
	case bodyPlain, bodyChunk:
		return b.left
	case bodyToEnd:
		return 1 << 62
	default:
		return 0
	}
}

// skip skips n bytes of content, at most blind.
func (b *body) skip(n uint64) {
	if b.state == bodyToEnd {
		return
	}
	if b.left -= n; b.left == 0 {
		if b.state == bodyPlain {
			b.state = bodyNone
		} else {
			b.state = bodyCRLF
		}
	}
}

// line reads a line of a chunked body.
func (b *body) line(ln *line, lines *liner) error {
	switch b.state {
	case bodyCRLF:
		if ln.len != 0 {
			return lost("end of a chunk", ln.head)
		}
		b.state = bodySize
		lines.reset()
	case bodySize:
		n, err := chunkSize(ln)
		if err != nil {
			return err
		}
		lines.reset()
		if b.state, b.left = bodyChunk, n; n == 0 {
			b.state = bodyTrail
		}
	case bodyTrail:
		if ln.len == 0 {
			b.state = bodyNone
		}
	}
	return nil
}

// Body reads the content of a message whose head another reader has read. The zero value is at the
// end of one.
type Body struct {
	body  body
	lines liner
}

// Begin begins content of a known length or, if chunked, one in chunks.
func (b *Body) Begin(length int64, chunked bool) {
	b.lines.reset()
	b.body.begin(&head{length: length, chunked: chunked})
}

// Ended reports whether the content has ended.
func (b *Body) Ended() bool { return b.body.state == bodyNone }

// Next reads some of p, which is not empty: content, or what frames it. It does not read beyond the
// end.
func (b *Body) Next(p []byte) (used int, content bool, err error) {
	if n := min(uint64(len(p)), b.body.blind()); n > 0 {
		b.body.skip(n)
		return int(n), true, nil
	}
	if b.Ended() {
		return 0, false, nil
	}
	used, err = b.body.framing(p, &b.lines)
	return used, false, err
}

// chunkSize parses a chunk's size, in hexadecimal digits; it ignores extensions.
func chunkSize(ln *line) (uint64, error) {
	var n uint64
	i := 0
	for ; i < len(ln.head); i++ {
		c := ln.head[i]
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			c = 16
		}
		if c == 16 {
			break
		}
		if n >= 1<<56 {
			return 0, lost("size of a chunk", ln.head)
		}
		n = 16*n + uint64(c)
	}
	if i == 0 || i < len(ln.head) && ln.head[i] != ';' && ln.head[i] != ' ' &&
		ln.head[i] != '\t' || i == lineHead {
		return 0, lost("size of a chunk", ln.head)
	}
	return n, nil
}
