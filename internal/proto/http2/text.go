package http2

import (
	"bytes"
	"strconv"
	"unicode"
	"unicode/utf8"

	"tcpcopy/internal/core/ledger"
)

// maxMessage bounds how much of a message is read.
const maxMessage = 1024

// folded stands for words that may be of one request alone.
const folded = "#"

// appendText appends what the account tells of a call's message, which is text of the target for
// people, percent-encoded. It may quote what is in a request or in a database, even of a person. So
// only words of letters are told, without what stands in quotes. That makes messages equal, too,
// which differ from call to call.
func appendText(dst, message []byte) []byte {
	quote := byte(0)
	for word := range bytes.FieldsSeq(unescape(message[:min(len(message), maxMessage)])) {
		told := word
		switch i := bytes.IndexByte(word, quote); {
		case quote != 0 && i < 0:
			continue
		case quote != 0:
			quote = 0
			continue
		default:
			if quote = opens(word); quote != 0 {
				told = []byte(folded)
				if bytes.Count(word, []byte{quote})&1 == 0 {
					quote = 0
				}
			}
		}
		n := len(dst)
		if n > 0 {
			dst = append(dst, ' ')
		}
		if dst = appendWord(dst, told); len(dst) > ledger.MaxText {
			return dst[:n]
		}
	}
	return dst
}

// opens returns the mark with which quotes begin in a word; 0: none does. An apostrophe within a
// word is no such mark.
func opens(word []byte) byte {
	if i := bytes.IndexAny(word, "\"`"); i >= 0 {
		return word[i]
	}
	if word = bytes.TrimLeft(word, "([{:=,"); len(word) > 0 && word[0] == '\'' {
		return '\''
	}
	return 0
}

// appendWord appends a word with the marks around it. It is folded unless it has letters alone.
func appendWord(dst, word []byte) []byte {
	core := bytes.TrimRight(bytes.TrimLeft(word, "([{"), ")]},;:.!?")
	before, after, _ := bytes.Cut(word, core)
	if len(core) == 0 {
		before, after = word, nil
	}
	dst = append(dst, before...)
	if plain(core) {
		dst = append(dst, core...)
	} else {
		dst = append(dst, folded...)
	}
	return append(dst, after...)
}

// plain reports whether a word has letters alone, and what may stand between them.
func plain(word []byte) bool {
	for len(word) > 0 {
		r, n := utf8.DecodeRune(word)
		if !unicode.IsLetter(r) && r != '-' && r != '_' && r != '\'' {
			return false
		}
		word = word[n:]
	}
	return true
}

// unescape returns a text that is percent-encoded as gRPC does it, decoded.
func unescape(p []byte) []byte {
	text := make([]byte, 0, len(p))
	for i := 0; i < len(p); i++ {
		c := p[i]
		if c == '%' && i+2 < len(p) {
			if n, err := strconv.ParseUint(string(p[i+1:i+3]), 16, 8); err == nil {
				c, i = byte(n), i+2
			}
		}
		text = append(text, c)
	}
	return text
}
