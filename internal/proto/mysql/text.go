package mysql

import "tcpcopy/internal/core/ledger"

// text judges the text of a query or a prepare: by its first words, by those of each statement if
// it may have several, and, if only statements that cannot write are wanted, by all its words.
type text struct {
	lexer
	judge
	readOnly bool
	several  bool
}

// begin prepares for another text.
func (t *text) begin(readOnly, several bool) {
	t.lexer.reset()
	t.judge = judge{}
	t.readOnly, t.several = readOnly, several
}

// read reads some of the text. If sure, why is the verdict whatever follows.
func (t *text) read(p []byte) (why ledger.Reason, sure bool) {
	for len(p) > 0 {
		if !t.readOnly && t.kind == reads {
			if p = p[t.skip(p):]; len(p) == 0 {
				break
			}
		}
		c := p[0]
		p = p[1:]
		for again := true; again; {
			var tok token
			if tok, again = t.next(c); tok == noToken {
				continue
			}
			if why, sure = t.judged(tok); sure {
				return why, true
			}
		}
	}
	return ledger.None, false
}

// end returns the verdict on a text that has ended.
func (t *text) end() ledger.Reason {
	for _, tok := range [...]token{t.finish(), endToken} {
		if why, sure := t.judged(tok); sure {
			return why
		}
	}
	return ledger.None
}

func (t *text) judged(tok token) (why ledger.Reason, sure bool) {
	if tok == noToken {
		return ledger.None, false
	}
	if !t.readOnly {
		return t.firstWords(tok)
	}
	if !t.token(tok, &t.lexer) {
		return readOnly, true
	}
	return ledger.None, false
}

// firstWords judges a text by how its statements begin. A file to load does not exist here, and a
// KILL would end an unrelated connection of the target.
func (t *text) firstWords(tok token) (why ledger.Reason, sure bool) {
	switch {
	case tok == badToken: // the rest cannot be read
		return ledger.None, true
	case tok == endToken:
		t.judge = judge{schema: t.schema}
		t.raw = false
		return ledger.None, !t.several
	}
	word := t.said()
	switch t.kind {
	case nothing:
		if tok == otherToken && t.lexer.char == '(' {
			return ledger.None, false
		}
		t.kind = reads // whatever it does, it goes to the target
		if tok != wordToken {
			break
		}
		switch string(word) {
		case "LOAD":
			t.kind = loading
			return ledger.None, false
		case "USE":
			t.kind, t.words, t.raw = using, 2, true
			return ledger.None, false
		case "KILL", "SHUTDOWN":
			return serverCommand, true
		}
	case loading:
		if t.kind = reads; tok == wordToken && (string(word) == "DATA" || string(word) == "XML") {
			return loadData, true
		}
	case using:
		t.noteSchema(tok, &t.lexer)
		return ledger.None, false
	}
	return ledger.None, !t.several
}

// beginText begins to judge the text of a command whose first bytes are head.
func (c *Client) beginText(head []byte) {
	c.fate = reading
	at := 1
	if c.command == comQuery {
		if at = c.attributesOf(head); c.fate != reading {
			return
		}
	}
	c.text.begin(c.opt.ReadOnly, c.command == comQuery && c.caps&capMultiStatement != 0)
	c.readText(head[at:])
}

// severalMost is how many bytes of a text are held back in search of further statements. With
// ReadOnly all are held back.
const severalMost = 1 << 20

// readText judges more of the text.
func (c *Client) readText(p []byte) {
	why, sure := c.text.read(p)
	if sure || !c.opt.ReadOnly && c.pending > severalMost {
		c.textJudged(why)
	}
}

func (c *Client) textJudged(why ledger.Reason) {
	if why != ledger.None {
		c.leaveOut(why)
		return
	}
	c.fate = passed
	if c.text.schema != "" && c.command == comQuery {
		c.who.db = c.text.schema
	}
}

// endText judges a text that has ended.
func (c *Client) endText() { c.textJudged(c.text.end()) }
