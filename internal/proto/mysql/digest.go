package mysql

import (
	"encoding/binary"
	"math"
	"strconv"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/content"
)

var comparison = &proto.Comparison{
	NewDigester: func(d *proto.Digesting) proto.Digester {
		return content.NewWhole(d, readResults)
	},
	NewLabeller: func(d *proto.Digesting) proto.Labeller { return &labeller{with: d} },
	Unordered:   unordered,
	NeedsServer: true, // its greeting
}

// readResults adds the fields of an answer to a command whose answer is a result, or several. What
// else servers answer (logins, ids of prepared statements) is their own.
func readResults(b *content.Builder, p []byte, h proto.Hint) bool {
	if h != 0 {
		return true
	}
	r := results{b: b, p: p}
	for n := 1; ; n++ {
		if r.prefix = r.prefix[:0]; n > 1 {
			r.prefix = strconv.AppendInt(append(r.prefix, "result "...), int64(n), 10)
			r.prefix = append(r.prefix, ' ')
		}
		if more, ok := r.result(); !more || !ok {
			return ok && len(r.p) == 0
		}
	}
}

// results reads the results of one answer.
type results struct {
	b       *content.Builder
	p       []byte
	prefix  []byte // of all paths
	path    []byte // scratch
	columns []definition
	rows    [][]byte
	values  [][]byte // scratch: of one row; nil: NULL
	text    []byte   // scratch: of values
}

// definition is what a column definition says of the values.
type definition struct {
	name     []byte
	kind     byte
	unsigned bool
}

// The types of columns, as far as values are of different lengths or forms.
const (
	typeTiny     = 1
	typeShort    = 2
	typeLong     = 3
	typeFloat    = 4
	typeDouble   = 5
	typeNull     = 6
	typeLongLong = 8
	typeInt24    = 9
	typeYear     = 13
	typeDecimal  = 0
	typeNumeric  = 246
)

// flagUnsigned is in the flags of a column.
const flagUnsigned = 0x20

// packet returns the payload of the next packet, of those together that continue each other.
func (r *results) packet() ([]byte, bool) {
	var whole []byte
	for {
		if len(r.p) < headerLen {
			return nil, false
		}
		n := int(r.p[0]) | int(r.p[1])<<8 | int(r.p[2])<<16
		if len(r.p) < headerLen+n {
			return nil, false
		}
		part := r.p[headerLen : headerLen+n]
		r.p = r.p[headerLen+n:]
		if whole == nil && n < maxPayload {
			return part, true
		}
		if whole = append(whole, part...); n < maxPayload {
			return whole, true
		}
	}
}

// at returns a path within the present result.
func (r *results) at(name string, more []byte) []byte {
	r.path = append(append(append(r.path[:0], r.prefix...), name...), more...)
	return r.path
}

// result reads one result. more reports that another one follows.
func (r *results) result() (more, ok bool) {
	p, ok := r.packet()
	for ok && len(p) > 2 && p[0] == 0xff && binary.LittleEndian.Uint16(p[1:]) == progressCode {
		p, ok = r.packet()
	}
	switch {
	case !ok || len(p) == 0:
		return false, false
	case p[0] == 0xff:
		return false, true // the digest has its code
	case p[0] == 0 || p[0] == 0xfe:
		return r.done(p, true)
	}
	n, used := lenenc(p)
	if left := p[used:]; used == 0 || n == 0 || n > 1<<12 || len(left) > 1 ||
		len(left) == 1 && left[0] == 0 { // MariaDB leaves out definitions that the client has
		return false, false
	}
	return r.table(int(n))
}

// table reads columns and rows.
func (r *results) table(columns int) (more, ok bool) {
	r.columns, r.rows = r.columns[:0], r.rows[:0]
	for range columns {
		p, ok := r.packet()
		if !ok {
			return false, false
		}
		c, ok := parseColumn(p)
		if !ok || !r.b.Add(r.at("column ", c.name), []byte{c.kind}, c.types()) {
			return false, false
		}
		r.columns = append(r.columns, c)
	}
	for first := true; ; first = false {
		p, ok := r.packet()
		switch {
		case !ok || len(p) == 0:
			return false, false
		case p[0] == 0xff: // an error in place of the rest
			return false, true
		case p[0] == 0xfe && len(p) == eofLen && first:
			continue // behind the columns
		case p[0] == 0xfe && len(p) < maxPayload && isEnd(p):
			if !r.addRows() {
				return false, false
			}
			return r.done(p, false)
		}
		r.rows = append(r.rows, p)
	}
}

// eofLen is the length of an EOF packet.
const eofLen = 5

// isEnd reports whether a packet that begins with 0xfe ends the rows. In a row that byte is of a
// value of more than 16 MB.
func isEnd(p []byte) bool { return len(p) < 1<<16 }

// done reads the packet that ends a result. counts says that it tells what a statement has changed.
func (r *results) done(p []byte, counts bool) (more, ok bool) {
	status, ok := statusOf(p, len(p))
	if !ok {
		return false, false
	}
	var warnings uint16
	if p[0] == 0xfe && len(p) == eofLen {
		warnings = binary.LittleEndian.Uint16(p[1:])
	} else {
		affected, n := lenenc(p[1:])
		inserted, k := lenenc(p[1+n:])
		if counts {
			ok = r.number("affected", affected) && r.number("insert id", inserted)
		}
		if rest := p[1+n+k+2:]; len(rest) >= 2 {
			warnings = binary.LittleEndian.Uint16(rest)
		}
	}
	if ok && warnings > 0 {
		ok = r.number("warnings", uint64(warnings))
	}
	return status&statusMoreResults != 0, ok
}

func (r *results) number(name string, v uint64) bool {
	var room [20]byte
	return r.b.Add(r.at(name, nil), strconv.AppendUint(room[:0], v, 10), proto.Number)
}

// addRows adds the values of the rows, column by column. Rows are text, or in the form of prepared
// statements, which the answer does not say: values of numbers that are text tell them apart.
func (r *results) addRows() bool {
	if !r.b.AddList(r.at("rows", nil), uint64(len(r.rows))) {
		return false
	}
	split := r.splitText
	for _, row := range r.rows {
		if !r.splitText(row) {
			split = r.splitBinary
			break
		}
	}
	for _, row := range r.rows {
		if !split(row) {
			return false
		}
		for i, v := range r.values {
			as := proto.Text
			if v == nil {
				as = proto.Null
			}
			if !r.b.Add(r.at("rows[].", r.columns[i].name), v, as) {
				return false
			}
		}
	}
	return true
}

// splitText splits a row of text into its values. It returns false if the row is of another form.
func (r *results) splitText(p []byte) bool {
	r.values = r.values[:0]
	for _, c := range r.columns {
		if len(p) > 0 && p[0] == 0xfb {
			r.values, p = append(r.values, nil), p[1:]
			continue
		}
		n, used := lenenc(p)
		if used == 0 || n > uint64(len(p)-used) {
			return false
		}
		v := p[used : used+int(n) : used+int(n)]
		if c.isNumber() && !isDecimal(v) {
			return false
		}
		r.values, p = append(r.values, v), p[used+int(n):]
	}
	return len(p) == 0
}

// splitBinary splits a row of a prepared statement: a zero, a bit for each NULL, the other values.
func (r *results) splitBinary(p []byte) bool {
	nulls := (len(r.columns) + 7 + 2) / 8
	if len(p) < 1+nulls || p[0] != 0 {
		return false
	}
	null := p[1 : 1+nulls]
	p = p[1+nulls:]
	r.values, r.text = r.values[:0], r.text[:0]
	for i, c := range r.columns {
		if bit := i + 2; null[bit/8]&(1<<(bit%8)) != 0 {
			r.values = append(r.values, nil)
			continue
		}
		n, used := c.width(), 0
		if n < 0 {
			v, k := lenenc(p)
			if k == 0 || v > uint64(len(p)) {
				return false
			}
			n, used = int(v), k
		}
		if n > len(p)-used {
			return false
		}
		r.values, p = append(r.values, r.decimal(&c, p[used:used+n:used+n])), p[used+n:]
	}
	return len(p) == 0
}

// decimal returns the text of a number that is in binary form, and other values as they are.
func (r *results) decimal(c *definition, p []byte) []byte {
	at := len(r.text)
	switch c.kind {
	case typeFloat:
		v := math.Float32frombits(binary.LittleEndian.Uint32(p))
		r.text = strconv.AppendFloat(r.text, float64(v), 'g', -1, 32)
	case typeDouble:
		v := math.Float64frombits(binary.LittleEndian.Uint64(p))
		r.text = strconv.AppendFloat(r.text, v, 'g', -1, 64)
	case typeTiny, typeShort, typeYear, typeLong, typeInt24, typeLongLong:
		var v uint64
		for i, b := range p {
			v |= uint64(b) << (8 * i)
		}
		if free := 64 - 8*len(p); c.unsigned {
			r.text = strconv.AppendUint(r.text, v, 10)
		} else {
			r.text = strconv.AppendInt(r.text, int64(v<<free)>>free, 10)
		}
	default:
		return p
	}
	return r.text[at:len(r.text):len(r.text)]
}

// parseColumn parses a column definition: catalog, schema, table, its own name, the column, its own
// name, in MariaDB with extended metadata some more, and what is of a fixed length.
func parseColumn(p []byte) (c definition, ok bool) {
	for i := range 6 {
		n, used := lenenc(p)
		if used == 0 || n > uint64(len(p)-used) {
			return c, false
		}
		if i == 4 {
			c.name = p[used : used+int(n)]
		}
		p = p[used+int(n):]
	}
	const fixed = 12 // and the byte that says so; it is the last, but in answers to a field list
	for len(p) > 0 && p[0] != fixed {
		n, used := lenenc(p)
		if used == 0 || n > uint64(len(p)-used) {
			return c, false
		}
		p = p[used+int(n):]
	}
	if len(p) < 1+fixed {
		return c, false
	}
	c.kind = p[1+2+4] // behind the character set and the length
	c.unsigned = p[1+2+4+1]&flagUnsigned != 0
	return c, true
}

// isNumber reports whether the values, as text, are decimal numbers.
func (c *definition) isNumber() bool {
	switch c.kind {
	case typeTiny, typeShort, typeLong, typeLongLong, typeInt24, typeYear, typeFloat, typeDouble,
		typeDecimal, typeNumeric:
		return true
	}
	return false
}

// types returns the type of a column's values.
func (c *definition) types() proto.FieldTypes {
	switch {
	case c.isNumber():
		return proto.Number
	case c.kind == typeNull:
		return proto.Null
	}
	return proto.Text
}

// width returns the length of a value in the form of prepared statements; -1: it says so itself.
func (c *definition) width() int {
	switch c.kind {
	case typeTiny:
		return 1
	case typeShort, typeYear:
		return 2
	case typeLong, typeInt24, typeFloat:
		return 4
	case typeLongLong, typeDouble:
		return 8
	case typeNull:
		return 0
	}
	return -1
}

// isDecimal reports whether a text may be a number: 1, -1.5, 1e+30.
func isDecimal(p []byte) bool {
	for _, c := range p {
		if (c < '0' || c > '9') && c != '-' && c != '+' && c != '.' && c != 'e' && c != 'E' {
			return false
		}
	}
	return len(p) > 0
}
