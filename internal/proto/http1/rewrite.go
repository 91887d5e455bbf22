package http1

import (
	"bytes"

	"tcpcopy/internal/proto/semantics"
)

// methodPath returns a request's method and path. If its target is in absolute form (RFC 9112
// §3.2.2), the path is what follows the authority.
func methodPath(head []byte) (method, path []byte) {
	head = bytes.TrimLeft(head, "\r\n")
	line, _, _ := bytes.Cut(head, []byte{'\n'})
	method, rest, _ := bytes.Cut(line, []byte{' '})
	end := bytes.LastIndex(rest, []byte(" HTTP/"))
	if end < 0 {
		return method, nil
	}
	path = bytes.TrimSpace(rest[:end])
	if i := bytes.Index(path, []byte("://")); i > 0 && path[0] != '/' {
		path = path[i+3:]
		if j := bytes.IndexByte(path, '/'); j >= 0 {
			path = path[j:]
		} else {
			path = []byte{'/'}
		}
	}
	if i := bytes.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	return method, path
}

// appendHead appends head with the headers of r.Set. The first header of a name is replaced,
// further ones are removed.
func appendHead(r *semantics.Rules, dst, head []byte) []byte {
	start := len(head) - len(bytes.TrimLeft(head, "\r\n"))
	dst = append(dst, head[:start]...)
	line, rest := cutLine(head[start:])
	dst = append(dst, requestLineFor(r, line)...)
	var done uint64 // the headers of r.Set that were written, by number
	gone := false   // the line before was removed, and so are lines folded to it
	for {
		line, rest = cutLine(rest)
		if len(cutCR(bytes.TrimSuffix(line, []byte{'\n'}))) == 0 {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			if !gone {
				dst = append(dst, line...)
			}
			continue
		}
		name, _, _ := bytes.Cut(line, []byte{':'})
		gone = false
		for i := range r.Set {
			if h := &r.Set[i]; h.Is(name) {
				gone = true
				if done&(1<<i) == 0 {
					dst = appendHeader(dst, h)
				}
				done |= 1 << i
			}
		}
		if !gone {
			dst = append(dst, line...)
		}
	}
	for i := range r.Set {
		if done&(1<<i) == 0 {
			dst = appendHeader(dst, &r.Set[i])
		}
	}
	return append(dst, line...)
}

func appendHeader(dst []byte, h *semantics.Header) []byte {
	return append(append(append(append(dst, h.Name...), ": "...), h.Value...), "\r\n"...)
}

// requestLineFor returns the request line; if it names an authority and a Host is set, with that
// Host.
func requestLineFor(r *semantics.Rules, line []byte) []byte {
	for i := range r.Set {
		h := &r.Set[i]
		if !h.IsHost() {
			continue
		}
		at := bytes.Index(line, []byte("://"))
		space := bytes.IndexByte(line, ' ')
		if at < 0 || space < 0 || bytes.IndexByte(line, '/') < at {
			break
		}
		rest := line[at+3:]
		end := bytes.IndexAny(rest, "/? ")
		if end < 0 {
			break
		}
		return append(append(append([]byte{}, line[:at+3]...), h.Value...), rest[end:]...)
	}
	return line
}

// cutLine splits off the first line, with its line end.
func cutLine(p []byte) (line, rest []byte) {
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		return p[:i+1], p[i+1:]
	}
	return p, nil
}
