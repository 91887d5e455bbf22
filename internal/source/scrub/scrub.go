// Package scrub replaces what is private in recorded traffic, so that a recording may leave its
// host: the values of HTTP headers, and values in JSON. Lengths stay as they are, so that sequence
// numbers stay valid.
//
// It follows each connection and direction across segments. What it cannot follow it blanks, and
// counts: connections that are not HTTP/1, bytes after a gap up to the next line, segments that
// repeat others or that come too late, and bodies that are encoded if JSON is to be scrubbed. Read
// scrub.go first (segments), then machine.go (lines and bodies) and json.go.
package scrub

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
)

// Rules say what is private.
type Rules struct {
	headers [][]byte
	paths   [][]string // of keys; "*" is any key, "**" any number of keys
}

const (
	// maxName bounds a header's name and a key of a path, in bytes.
	maxName = 128
	// maxRules bounds the headers, and the paths; maxParts the keys of a path.
	maxRules = 64
	maxParts = 32
)

// Empty reports whether nothing is private.
func (r *Rules) Empty() bool { return len(r.headers) == 0 && len(r.paths) == 0 }

// AddHeaders adds the headers of a text such as "header:authorization,cookie".
func (r *Rules) AddHeaders(s string) error {
	list, ok := strings.CutPrefix(s, "header:")
	if !ok {
		return errors.New("wanted header: and names of headers, such as " +
			"header:authorization,cookie")
	}
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		if name == "" || len(name) > maxName || strings.ContainsAny(name, " \t:\r\n") {
			return errors.New("wanted names of headers, with commas, such as authorization,cookie")
		}
		r.headers = append(r.headers, []byte(name))
	}
	if len(r.headers) > maxRules {
		return errors.New("wanted fewer headers: at most 64")
	}
	return nil
}

// AddPaths adds paths of keys with commas, such as "user.password,**.token".
func (r *Rules) AddPaths(s string) error {
	for path := range strings.SplitSeq(s, ",") {
		parts := strings.Split(strings.TrimPrefix(strings.TrimSpace(path), "$."), ".")
		for _, part := range parts {
			if part == "" || len(part) > maxName || strings.ContainsAny(part, "[]\"\\ ") {
				return errors.New("wanted keys with dots, such as user.password, *.token for the " +
					"token of any key, or **.token for one at any depth; lists need no word")
			}
		}
		if len(parts) > maxParts || parts[len(parts)-1] == "**" {
			return errors.New("wanted at most 32 keys, and a key or * as the last")
		}
		r.paths = append(r.paths, parts)
	}
	if len(r.paths) > maxRules {
		return errors.New("wanted fewer paths: at most 64")
	}
	return nil
}

// Stats count what was done.
type Stats struct {
	Values      uint64 // values that were replaced
	Blanked     uint64 // bytes that were blanked, because they could not be followed
	Connections uint64 // connections that are not HTTP/1, or no longer: they are blanked
}

// Scrubber scrubs the segments of all connections. One goroutine may use it.
type Scrubber struct {
	rules Rules
	stats Stats
	// conns are the connections of late; older those of before, which are found again or forgotten.
	// One that was forgotten is as one whose beginning was not seen.
	conns, older map[ends]*conn
}

// maxConns bounds each of the two tables.
const maxConns = 1 << 16

type ends struct{ client, server netip.AddrPort }

// conn is one connection. It is over once it is not HTTP/1.
type conn struct {
	foreign bool
	client  direction
	server  direction
}

// direction is what one end sends.
type direction struct {
	started bool         // next is known
	syn     seqnum.Value // of the SYN, if there was one
	next    seqnum.Value
	m       machine
}

// New returns a Scrubber.
func New(rules Rules) *Scrubber {
	return &Scrubber{rules: rules, conns: make(map[ends]*conn), older: make(map[ends]*conn)}
}

// Stats returns the counts so far.
func (s *Scrubber) Stats() Stats { return s.stats }

// Segment scrubs the payload of a segment in place.
func (s *Scrubber) Segment(seg *packet.Segment, fromServer bool) {
	key := ends{seg.Src, seg.Dst}
	if fromServer {
		key = ends{seg.Dst, seg.Src}
	}
	c := s.find(key)
	d := c.of(fromServer)
	switch {
	case seg.Flags&packet.SYN != 0:
		if !d.started || d.syn != seg.Seq { // else it is repeated
			if !fromServer {
				*c = conn{} // a new connection
			}
			*d = direction{started: true, syn: seg.Seq, next: seg.Seq.Add(1)}
			d.m.begin(&s.rules, fromServer)
		}
		blank(seg.Payload, &s.stats) // TCP Fast Open, which is rare
		return
	case seg.Len == 0:
		return
	}
	if !d.started {
		d.started, d.next = true, seg.Seq
		d.m.begin(&s.rules, fromServer)
		d.m.lose(true)
	}
	ahead := seg.Seq.Sub(d.next)
	switch {
	case ahead < 0 && seg.Seq.Add(seg.Len).LessEq(d.next): // repeated, or too late
		blank(seg.Payload, &s.stats)
		return
	case ahead < 0: // repeated in part
		old := min(-ahead, len(seg.Payload))
		blank(seg.Payload[:old], &s.stats)
		s.feed(c, d, seg.Payload[old:])
	default:
		if ahead > 0 {
			d.m.lose(false)
		}
		s.feed(c, d, seg.Payload)
	}
	d.next = seg.Seq.Add(seg.Len)
	if len(seg.Payload) < seg.Len { // cut
		d.m.lose(false)
	}
}

// feed scrubs bytes that follow on those before.
func (s *Scrubber) feed(c *conn, d *direction, b []byte) {
	end := 0
	if !c.foreign {
		end = d.m.feed(b, &s.stats)
		if c.foreign = d.m.foreign; c.foreign {
			s.stats.Connections++
		}
	}
	blank(b[end:], &s.stats)
}

// blank replaces bytes that cannot be followed.
func blank(b []byte, stats *Stats) {
	for i := range b {
		b[i] = filler
	}
	stats.Blanked += uint64(len(b))
}

// filler is what stands for a byte that was replaced.
const filler = 'x'

func (c *conn) of(fromServer bool) *direction {
	if fromServer {
		return &c.server
	}
	return &c.client
}

// find returns a connection, which it makes if it is not known.
func (s *Scrubber) find(key ends) *conn {
	if c := s.conns[key]; c != nil {
		return c
	}
	c := s.older[key]
	if c == nil {
		c = new(conn)
	}
	if len(s.conns) >= maxConns {
		s.older, s.conns = s.conns, make(map[ends]*conn)
	}
	s.conns[key] = c
	return c
}

// startLine reports whether bytes begin with that of an HTTP/1 request, or of a response; more:
// they may, with more bytes.
func startLine(b []byte, fromServer bool) (is, more bool) {
	const version = "HTTP/1."
	if fromServer {
		n := min(len(b), len(version))
		return len(b) >= len(version) && string(b[:n]) == version, string(b[:n]) == version[:n]
	}
	for i, c := range b {
		switch {
		case c == ' ' && i > 0:
			method := b[:i]
			return !bytes.Equal(method, []byte("PRI")) && !bytes.Equal(method, []byte("CONNECT")),
				false
		case (c < 'A' || c > 'Z') && c != '-' && c != '_' || i >= maxMethod:
			return false, false
		}
	}
	return false, true
}

// maxMethod bounds the name of a request's method.
const maxMethod = 24
