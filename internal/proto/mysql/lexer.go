package mysql

import "bytes"

// wordMost is how many bytes of a word or a quoted name are kept. No word that matters is longer.
const wordMost = 64

// token is a kind of token of a statement's text.
type token uint8

const (
	noToken    token = iota
	wordToken        // a name, a keyword or a number: word holds it, in upper case
	nameToken        // a name in backquotes: word holds it
	textToken        // a string
	otherToken       // a character: char holds it
	endToken         // a semicolon, or the end of the text
	badToken         // what two servers may read in two ways, or what has no end
)

// lexing is the state of a lexer.
type lexing uint8

const (
	between lexing = iota
	inWord
	inText
	textQuote // behind a quote that may end the text
	inName
	nameQuote
	dash
	dashes
	inLine
	slash
	opened // behind /*
	openedM
	version
	inComment
	commentStar
	codeStar // behind a star in a comment that is executed
	spoilt
)

// lexer cuts a statement's text (MySQL 8.4 manual §11.1, §11.7) into tokens, however it is split.
// It skips comments; a comment that servers execute is read as its content.
type lexer struct {
	at          lexing
	char        byte // of otherToken; the quote of a text
	length      uint8
	digits      uint8 // of a comment's version
	number      int   // that version
	matched     uint8 // letters of "backslash" that were matched in a text
	noBackslash bool  // the server does not treat a backslash in a text as an escape
	escaped     bool
	high        bool // the byte before was not ASCII
	code        bool // inside a comment that is executed
	backslash   bool // a text contains "backslash"
	raw         bool // words keep their case
	word        [wordMost]byte
}

// reset prepares for another text.
func (l *lexer) reset() { *l = lexer{noBackslash: l.noBackslash} }

// executedBelow is the lowest version whose comments not all servers execute: MariaDB skips those
// of MySQL 5.7 and later.
const executedBelow = 50700

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' ||
		c == '$' || c >= 0x80
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

// next reads a byte. If a token ends before c, again is true, and c must be passed again.
func (l *lexer) next(c byte) (t token, again bool) {
	switch l.at {
	case between:
		return l.first(c), false
	case inWord:
		if isWord(c) {
			l.add(l.cased(c))
			return noToken, false
		}
		return l.end(wordToken), true
	case inText:
		return l.inText(c), false
	case textQuote:
		if c == l.char {
			l.at = inText
			return noToken, false
		}
		return l.end(textToken), true
	case inName:
		switch c {
		case '`':
			l.at = nameQuote
		case 0:
			return l.spoil(), false
		default:
			l.add(c)
		}
		return noToken, false
	case nameQuote:
		if c == '`' {
			l.at = inName
			l.add(c)
			return noToken, false
		}
		return l.end(nameToken), true
	}
	return l.comment(c)
}

// mayBegin holds the semicolon, and the bytes that may begin or end something that can contain
// one.
var mayBegin = [256]bool{
	'\'': true, '"': true, '`': true, '#': true, '-': true, '/': true, '*': true, ';': true,
}

// skip skips bytes of tokens that do not matter, up to one that next must read. It returns how
// many.
func (l *lexer) skip(p []byte) (n int) {
	switch l.at {
	case between, inWord:
		for n < len(p) && !mayBegin[p[n]] {
			n++
		}
		if n > 0 {
			l.at = between
		}
	case inText:
		if l.escaped {
			return 0
		}
		if n = bytes.IndexByte(p, l.char); n < 0 {
			n = len(p)
		}
		if i := bytes.IndexByte(p[:n], '\\'); i >= 0 {
			n = i
		}
		if n > 0 {
			l.high = p[n-1] >= 0x80
		}
	}
	return n
}

// first reads the first byte of a token.
func (l *lexer) first(c byte) token {
	switch {
	case isWord(c):
		l.at, l.length = inWord, 0
		l.add(l.cased(c))
	case c == '\'' || c == '"':
		l.at, l.char, l.escaped, l.high, l.matched = inText, c, false, false, 0
	case c == '`':
		l.at, l.length = inName, 0
	case c == '#' && !l.code:
		l.at = inLine
	case c == '-':
		l.at = dash
	case c == '/':
		l.at = slash
	case c == '*' && l.code:
		l.at = codeStar
	case c == ';' && !l.code:
		return endToken
	case isSpace(c):
	case c < ' ' || c == 0x7f || c == '#' || c == ';':
		return l.spoil()
	default:
		l.char = c
		return otherToken
	}
	return noToken
}

func (l *lexer) inText(c byte) token {
	switch {
	case c == 0:
		return l.spoil()
	case l.escaped:
		// with ANSI_QUOTES this is a name, which ends here
		if l.escaped = false; c == '"' && l.char == c {
			return l.spoil()
		}
	case c == '\\' && !l.noBackslash:
		if l.high { // in some character sets this is the second byte of a letter
			return l.spoil()
		}
		l.escaped = true
	case c == l.char:
		l.at = textQuote
	}
	const said = "BACKSLASH"
	switch {
	case upper(c) == said[l.matched]:
		if l.matched++; int(l.matched) == len(said) {
			l.backslash, l.matched = true, 0
		}
	case upper(c) == said[0]:
		l.matched = 1
	default:
		l.matched = 0
	}
	l.high = c >= 0x80
	return noToken
}

// comment reads a byte where a comment may begin or end.
func (l *lexer) comment(c byte) (t token, again bool) {
	switch l.at {
	case dash:
		if c == '-' {
			l.at = dashes
			return noToken, false
		}
		l.char = '-'
		return l.end(otherToken), true
	case dashes:
		if c > ' ' { // minus minus
			l.char = '-'
			return l.end(otherToken), true
		}
		if l.at = inLine; l.code || c == 0 {
			return l.spoil(), false
		}
		return noToken, true
	case inLine:
		if c == '\n' {
			l.at = between
		}
	case slash:
		if c != '*' {
			l.char = '/'
			return l.end(otherToken), true
		}
		if l.at = opened; l.code { // servers read nested comments in different ways
			return l.spoil(), false
		}
	case opened:
		return l.executed(c)
	case openedM:
		if c == '!' { // MariaDB's own
			return l.spoil(), false
		}
		l.at = inComment
		return noToken, true
	case version:
		return l.inVersion(c)
	case inComment:
		if c == '*' {
			l.at = commentStar
		}
	case commentStar:
		switch c {
		case '/':
			l.at = between
		case '*':
		default:
			l.at = inComment
		}
	case codeStar:
		if c == '/' {
			l.at, l.code = between, false
			return noToken, false
		}
		l.char = '*'
		return l.end(otherToken), true
	default:
		return badToken, false
	}
	return noToken, false
}

// executed reads the first byte inside a comment, which decides whether it is executed.
func (l *lexer) executed(c byte) (t token, again bool) {
	switch c {
	case '!':
		l.at, l.digits, l.number = version, 0, 0
		return noToken, false
	case 'M':
		l.at = openedM
		return noToken, false
	}
	l.at = inComment
	return noToken, true
}

func (l *lexer) inVersion(c byte) (t token, again bool) {
	if '0' <= c && c <= '9' && l.digits < 8 {
		l.digits++
		l.number = 10*l.number + int(c-'0')
		return noToken, false
	}
	if l.digits != 0 && (l.digits != 5 || l.number >= executedBelow) {
		return l.spoil(), false
	}
	l.at, l.code = between, true
	return noToken, true
}

// finish returns the token that ends with the text, if there is one.
func (l *lexer) finish() token {
	switch at := l.at; {
	case l.code, at == inText, at == inName, at == opened, at == openedM, at == version,
		at == inComment, at == commentStar:
		return l.spoil()
	case at == spoilt:
		return badToken
	case at == inWord:
		return l.end(wordToken)
	case at == textQuote:
		return l.end(textToken)
	case at == nameQuote:
		return l.end(nameToken)
	case at == dash:
		l.char = '-'
		return l.end(otherToken)
	case at == slash:
		l.char = '/'
		return l.end(otherToken)
	}
	l.at = between
	return noToken
}

func (l *lexer) end(t token) token {
	l.at = between
	return t
}

// spoil ends the reading: the meaning of what follows is not known.
func (l *lexer) spoil() token {
	l.at = spoilt
	return badToken
}

// add appends to the word. A word that is too long gets a first byte that no word has.
func (l *lexer) add(c byte) {
	if int(l.length) == wordMost {
		l.word[0] = 0
		return
	}
	l.word[l.length] = c
	l.length++
}

// said returns the word or the name that has just ended.
func (l *lexer) said() []byte { return l.word[:l.length] }

func (l *lexer) cased(c byte) byte {
	if l.raw {
		return c
	}
	return upper(c)
}

func upper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		c -= 'a' - 'A'
	}
	return c
}
