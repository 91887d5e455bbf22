package redis

import "bytes"

// inline splits an inline command into words, as the server does. head holds its first bytes, and
// whole reports whether they are all. It returns the number of words, or -1 if that is not known.
func (r *reader) inline(head []byte, whole bool) (words int, err error) {
	for _, c := range head {
		if c < ' ' && c != '\t' || c >= 0x7f || !whole && (c == '"' || c == '\'') {
			return 0, lost("inline command", head)
		}
	}
	var room [lineHead]byte
	for rest := trimSpace(head); len(rest) > 0; words++ {
		word, after, ok := cutWord(room[:0], rest)
		if !ok {
			return 0, lost("quotes of an inline command", head)
		}
		if cut := len(after) == 0 && !whole; cut && words == 0 && len(word) <= wordLen {
			return 0, lost("inline command", head) // its name was cut
		} else if cut {
			break // the word goes on
		}
		if words < len(r.words) {
			r.words[words].add(word)
		}
		rest = trimSpace(after)
	}
	switch {
	case whole:
		return words, nil
	case words == 0 && len(trimSpace(head)) == 0:
		return 0, lost("inline command", head)
	default:
		return -1, nil
	}
}

func trimSpace(p []byte) []byte { return bytes.TrimLeft(p, " \t") }

// cutWord appends the first word of an inline command to dst. Quotes may enclose any part of it,
// and double quotes have escapes. ok is false if quotes do not end, or end within a word.
func cutWord(dst, p []byte) (word, rest []byte, ok bool) {
	quote := byte(0)
	for i := 0; i < len(p); i++ {
		c := p[i]
		switch {
		case quote == 0 && (c == ' ' || c == '\t'):
			return dst, p[i:], true
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0:
			dst = append(dst, c)
		case c == quote:
			rest = p[i+1:]
			return dst, rest, len(rest) == 0 || rest[0] == ' ' || rest[0] == '\t'
		case c == '\\' && quote == '"' && i+3 < len(p) && p[i+1] == 'x' && hex(p[i+2]) < 16 &&
			hex(p[i+3]) < 16:
			dst = append(dst, hex(p[i+2])<<4|hex(p[i+3]))
			i += 3
		case c == '\\' && i+1 < len(p) && (quote == '"' || p[i+1] == '\''):
			i++
			dst = append(dst, unescape(p[i], quote))
		default:
			dst = append(dst, c)
		}
	}
	return dst, nil, quote == 0
}

// unescape returns what a character after a backslash stands for.
func unescape(c, quote byte) byte {
	if at := bytes.IndexByte([]byte("nrtba"), c); at >= 0 && quote == '"' {
		return "\n\r\t\b\a"[at]
	}
	return c
}

// hex returns the value of a hexadecimal digit; 16 if c is none.
func hex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	default:
		return 16
	}
}
