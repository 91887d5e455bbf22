package mysql

// kind is the kind of a statement, by its first word.
type kind uint8

const (
	nothing  kind = iota // no word has come
	reads                // SELECT and the like
	shows                // SHOW
	explains             // EXPLAIN, DESCRIBE
	sets                 // SET
	using                // USE
	starts               // START, before TRANSACTION
	begins               // BEGIN
	ends                 // COMMIT, ROLLBACK and the like
	loading              // LOAD
)

// judge finds statements that cannot write. A statement that it does not know may write, and so
// may one that servers read in different ways.
//
// It trusts that views do not write, and that a harmless function's name stands for that function.
type judge struct {
	kind    kind
	before  token  // the token before
	char    byte   // if that was otherToken
	call    bool   // if that was a word: a parenthesis may follow it
	dotted  bool   // if that was a word: it followed a dot
	wants   word   // if that was a word: how it restricts the next token
	words   int    // of the statement
	analyze bool   // EXPLAIN ANALYZE, which is executed
	writing bool   // a word that writes has come
	mode    bool   // SET of sql_mode
	schema  string // the name in the last USE
}

// word is a word that matters together with the token behind it.
type word uint8

const (
	anyWord   word = iota
	wordFor        // FOR UPDATE, FOR SHARE lock
	wordInto       // INTO OUTFILE writes; INTO @variable does not
	wordNext       // NEXT VALUE FOR changes a sequence
	wordWrite      // INSERT and REPLACE write, unless they are functions
)

// token reads the next token, and reports whether the statement still cannot write.
func (j *judge) token(t token, l *lexer) bool {
	if t == badToken {
		return false
	}
	if j.wants == wordInto && (t != otherToken || l.char != '@') {
		return false
	}
	if j.wants == wordWrite && (t != otherToken || l.char != '(') && !j.mayWrite() {
		return false
	}
	wants := j.wants
	j.wants = anyWord
	ok := true
	switch t {
	case endToken:
		return j.end(l)
	case wordToken:
		ok = j.word(l, wants)
	case nameToken, textToken:
		ok = j.kind != nothing && j.kind != starts && j.kind != begins
	case otherToken:
		ok = j.other(l.char)
	}
	if j.kind == using {
		j.noteSchema(t, l)
	}
	j.before, j.char = t, l.char
	return ok
}

// mayWrite notes a word that writes, and reports whether it is harmless here.
func (j *judge) mayWrite() bool {
	j.writing = true
	return j.kind == shows || j.kind == explains && !j.analyze
}

func (j *judge) other(c byte) bool {
	switch {
	case j.kind == nothing:
		return c == '('
	case j.kind == starts || j.kind == begins:
		return false
	case c == '(' && j.before == wordToken:
		return j.call && !j.dotted
	// with ANSI_QUOTES a text is a name
	case c == '(' && (j.before == nameToken || j.before == textToken):
		return false
	}
	return true
}

// word judges a word; wants is the restriction by the word before.
func (j *judge) word(l *lexer, wants word) bool {
	w := l.said()
	j.dotted = j.before == otherToken && (j.char == '.' || j.char == '@')
	j.call = harmless[string(w)]
	if j.words++; j.kind == nothing {
		j.first(w, l)
		return j.kind != nothing
	}
	switch j.kind {
	case starts:
		if j.words == 2 {
			j.kind = ends
			return string(w) == "TRANSACTION"
		}
	case begins:
		return string(w) == "WORK"
	case sets:
		return j.setting(w)
	case reads, explains:
		return j.reading(w, wants)
	}
	return true
}

// first judges a statement's first word.
func (j *judge) first(w []byte, l *lexer) {
	switch string(w) {
	case "SELECT", "WITH", "VALUES", "TABLE":
		j.kind = reads
	case "SHOW":
		j.kind = shows
	case "EXPLAIN", "DESCRIBE", "DESC":
		j.kind = explains
	case "SET":
		j.kind = sets
	case "USE":
		j.kind, l.raw = using, true
	case "START":
		j.kind = starts
	case "BEGIN":
		j.kind = begins
	case "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE":
		j.kind = ends
	}
}

// reading judges a word of a query.
func (j *judge) reading(w []byte, wants word) bool {
	switch string(w) {
	case "ANALYZE":
		j.analyze = true
		return !j.writing
	case "UPDATE", "SHARE":
		if wants == wordFor {
			return false
		}
		if string(w) == "UPDATE" {
			return j.mayWrite()
		}
	case "VALUE":
		return wants != wordNext
	case "INSERT", "REPLACE":
		j.wants = wordWrite
	case "DELETE", "MERGE", "IMPORT":
		return j.mayWrite()
	case "INTO":
		if j.kind == reads || j.analyze {
			j.wants = wordInto
		}
	case "FOR":
		j.wants = wordFor
	case "NEXT":
		j.wants = wordNext
	case "OUTFILE", "DUMPFILE", "NEXTVAL", "SETVAL", "PROCEDURE", "LOCK":
		return false
	}
	return true
}

// setting judges a word of a SET.
func (j *judge) setting(w []byte) bool {
	switch string(w) {
	case "GLOBAL", "PERSIST", "PERSIST_ONLY", "PASSWORD", "ROLE", "STATEMENT", "RESOURCE", "INTO",
		"UPDATE", "DELETE",
		"OUTFILE", "DUMPFILE", "NEXTVAL", "SETVAL", "NEXT", "LOCK", "PROCEDURE":
		return false
	case "INSERT", "REPLACE":
		j.wants = wordWrite
	case "FOR":
		j.wants = wordFor
	case "SHARE":
		return false
	case "SQL_MODE":
		j.mode = true
	}
	// A mode given as a number could change how texts are read.
	return !j.mode || w[0] < '0' || w[0] > '9'
}

// end judges a statement that has ended, and prepares for the next.
func (j *judge) end(l *lexer) bool {
	ok := j.kind != starts && (j.kind != sets || !l.backslash)
	*j = judge{schema: j.schema}
	l.raw = false
	return ok
}

// noteSchema keeps the name behind USE, unless it is too long for a word.
func (j *judge) noteSchema(t token, l *lexer) {
	if name := l.said(); (t == nameToken || t == wordToken && j.words > 1) && len(name) > 0 &&
		name[0] != 0 {
		j.schema = string(name)
	}
}
