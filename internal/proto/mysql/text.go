package mysql

import "tcpcopy/internal/core/ledger"

// text judges the text of a query, or of a prepare: what may be its first word, and that of each statement where it
// may be several, and, where only statements that cannot write are wanted, all of it.
type text struct {
	lexer
	judge
	readOnly bool
	several  bool
}

// begin makes ready for another text.
func (t *text) begin(readOnly, several bool) {
	t.lexer.reset()
	t.judge = judge{}
	t.readOnly, t.several = readOnly, several
}

// read takes some of the text; sure says that why is the verdict, whatever follows.
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

// end is the verdict of a text that is over.
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

// firstWords judges a text by how its statements begin: a file that is to be loaded is not here, and what ends a
// connection of production's would end another of the target's.
func (t *text) firstWords(tok token) (why ledger.Reason, sure bool) {
	switch {
	case tok == badToken: // what follows is not read
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
		t.kind = reads // what it does is the target's matter
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

// beginText begins to judge the text of a command, of which head has come.
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

// severalMost is how much of a text is held back to look for more statements in it. With ReadOnly it is all.
const severalMost = 1 << 20

// readText goes on with it.
func (c *Client) readText(p []byte) {
	why, sure := c.text.read(p)
	if sure || !c.opt.ReadOnly && c.pending > severalMost {
		c.textJudged(why)
	}
}

func (c *Client) textJudged(why ledger.Reason) {
	if why != ledger.None {
		c.leave(why)
		return
	}
	c.fate = passed
	if c.text.schema != "" && c.command == comQuery {
		c.who.db = c.text.schema
	}
}

// endText judges a text that is over.
func (c *Client) endText() { c.textJudged(c.text.end()) }
