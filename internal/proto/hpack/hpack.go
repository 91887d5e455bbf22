// Package hpack reads and writes the header compression of HTTP/2 (RFC 7541).
//
// A Decoder follows an encoder that it did not negotiate with. It may begin within a connection:
// then entries of the dynamic table that were added before are not known, and a header block that
// refers to one cannot be read (ErrUnknown), while the table stays right. What is written uses the
// static table alone, so that it needs no state.
package hpack

import (
	"errors"
	"fmt"
)

// The errors of a Decoder.
var (
	// ErrInvalid is wrapped by the errors of a block that no encoder makes.
	ErrInvalid = errors.New("not a header block")
	// ErrUnknown reports that a block refers to an entry that was added before the decoder began.
	// The rest of the block still has to be read.
	ErrUnknown = errors.New("refers to an entry that is not known")
)

// DefaultSize is the size of a dynamic table until its encoder changes it.
const DefaultSize = 4096

// Field is a header field. Its bytes are valid until the Decoder is used again.
type Field struct {
	Name, Value []byte
	Never       bool // it must not be indexed by anyone (RFC 7541 §7.1.3)
	place       place
}

// place is where the static table has a field, or its name.
type place struct {
	known bool  // else it was not looked up
	whole bool  // the entry has the value, too
	index uint8 // 0: the name is not there
}

// Decoder reads the header blocks of one direction of a connection, in order.
type Decoder struct {
	table table
	// most bounds the size that the encoder may choose.
	most int
	// blind reports that entries were added before the decoder began. Until the encoder has emptied
	// its table, an index beyond the known ones may be of such an entry. How much the encoder's
	// table takes is not known: the decoder's may keep what that has evicted, which the encoder
	// does not use. Indices count from the newest entry, so they are the same.
	blind bool
	text  []byte // decoded strings of the present field
}

// Size returns how many bytes the table takes, about.
func (d *Decoder) Size() int {
	const entryCost = 48
	return cap(d.table.bytes) + cap(d.table.spare) + cap(d.text) + entryCost*cap(d.table.entries)
}

// Reset prepares d for a connection whose encoder may choose a table of at most most bytes. blind
// reports that blocks were sent before.
func (d *Decoder) Reset(most int, blind bool) {
	d.table = table{most: min(DefaultSize, most), entries: d.table.entries[:0],
		bytes: d.table.bytes[:0], spare: d.table.spare}
	if d.most, d.blind = most, blind; blind {
		d.table.most = most // the encoder may have changed it; what it has evicted it does not use
	}
}

// Block is what is left of a header block.
type Block struct {
	rest []byte
	any  bool // a field was read: no change of the size may follow
}

// NewBlock returns the block that p holds whole.
func NewBlock(p []byte) Block { return Block{rest: p} }

// Next reads the next field of b into f. more is false at the block's end. After ErrUnknown, f is
// empty, and the next call reads the next field; after another error the decoder must not be used
// again.
func (d *Decoder) Next(b *Block, f *Field) (more bool, err error) {
	for len(b.rest) > 0 {
		c := b.rest[0]
		d.text = d.text[:0]
		if c&0xe0 == 0x20 { // a change of the table's size (RFC 7541 §6.3)
			if err := d.resize(b); err != nil {
				return false, err
			}
			continue
		}
		b.any = true
		switch {
		case c&0x80 != 0:
			return true, d.indexed(b, f)
		case c&0xc0 == 0x40:
			return true, d.literal(b, f, 6, true)
		default:
			f.Never = c&0x10 != 0
			err := d.literal(b, f, 4, false)
			f.Never = c&0x10 != 0
			return true, err
		}
	}
	return false, nil
}

func invalid(what string, n int) error {
	return fmt.Errorf("hpack: %w: %s %d", ErrInvalid, what, n)
}

// resize reads a change of the table's size.
func (d *Decoder) resize(b *Block) error {
	n, ok := b.integer(5)
	if !ok || b.any || n > d.most {
		return invalid("size of the dynamic table", n)
	}
	if n == 0 {
		d.blind = false
	}
	d.table.resize(n)
	return nil
}

// indexed reads a field that is an entry (RFC 7541 §6.1).
func (d *Decoder) indexed(b *Block, f *Field) error {
	i, ok := int(b.rest[0]&0x7f), true
	if i < 0x7f { // as most are
		b.rest = b.rest[1:]
	} else {
		i, ok = b.integer(7)
	}
	if !ok || i == 0 {
		return invalid("index", i)
	}
	f.Never = false
	return d.entry(i, f)
}

// entry looks up the entry with the index i.
func (d *Decoder) entry(i int, f *Field) error {
	switch k := i - 1 - staticLen; {
	case k < 0:
		f.Name, f.Value = staticBytes[i-1][0], staticBytes[i-1][1]
		f.place = place{true, len(f.Value) > 0, uint8(i)}
	case k < d.table.len() && d.table.get(k, f):
	case d.blind && k < d.most/overhead:
		f.Name, f.Value = nil, nil
		return ErrUnknown
	default:
		return invalid("index", i)
	}
	return nil
}

// literal reads a literal field (RFC 7541 §6.2), whose name's index has that many bits.
func (d *Decoder) literal(b *Block, f *Field, bits int, index bool) error {
	i, ok := b.integer(bits)
	if !ok {
		return invalid("index", i)
	}
	f.Never = false
	var unknown error
	name := 0 // the length of the name in text
	if i == 0 {
		if d.text, ok = b.string(d.text); !ok {
			return invalid("name of the length", len(b.rest))
		}
		name = len(d.text)
	} else if unknown = d.entry(i, f); unknown != nil && !errors.Is(unknown, ErrUnknown) {
		return unknown
	}
	if d.text, ok = b.string(d.text); !ok {
		return invalid("value of the length", len(b.rest))
	}
	if f.place.whole = false; i == 0 {
		f.Name = d.text[:name:name]
		f.place = place{known: true, index: byName[string(f.Name)].first}
	}
	f.Value = d.text[name:]
	if index {
		d.table.add(f, unknown != nil)
	}
	if unknown != nil {
		f.Name, f.Value = nil, nil
	}
	return unknown
}

// integer reads an integer with a prefix of that many bits (RFC 7541 §5.1).
func (b *Block) integer(bits int) (n int, ok bool) {
	if len(b.rest) == 0 {
		return 0, false
	}
	most := 1<<bits - 1
	n = int(b.rest[0]) & most
	b.rest = b.rest[1:]
	if n < most {
		return n, true
	}
	for shift := 0; len(b.rest) > 0 && shift <= 28; shift += 7 {
		c := b.rest[0]
		b.rest = b.rest[1:]
		n += int(c&0x7f) << shift
		if c&0x80 == 0 {
			return n, true
		}
	}
	return n, false
}

// string reads a string (RFC 7541 §5.2), and appends it.
func (b *Block) string(dst []byte) (_ []byte, ok bool) {
	if len(b.rest) == 0 {
		return dst, false
	}
	coded := b.rest[0]&0x80 != 0
	n, ok := b.integer(7)
	if !ok || n > len(b.rest) {
		return dst, false
	}
	p := b.rest[:n]
	b.rest = b.rest[n:]
	if coded {
		return appendHuffman(dst, p)
	}
	return append(dst, p...), true
}

// Append appends a field that no dynamic table needs: an entry of the static table, or a literal.
func Append(dst []byte, f *Field) []byte {
	index, whole := int(f.place.index), f.place.whole
	if !f.place.known {
		index, whole = find(f.Name, f.Value)
	}
	switch {
	case whole && !f.Never:
		return appendInteger(dst, 0x80, 7, index)
	case f.Never:
		dst = appendInteger(dst, 0x10, 4, index)
	default:
		dst = appendInteger(dst, 0, 4, index)
	}
	if index == 0 {
		dst = append(appendInteger(dst, 0, 7, len(f.Name)), f.Name...)
	}
	return append(appendInteger(dst, 0, 7, len(f.Value)), f.Value...)
}

// find returns the index in the static table of an entry with that name; 0 if there is none. whole
// reports that it has that value, too.
func find(name, value []byte) (index int, whole bool) {
	s, ok := byName[string(name)]
	if !ok {
		return 0, false
	}
	for i := int(s.first); i < int(s.end); i++ {
		if static[i-1].value == string(value) && len(value) > 0 {
			return i, true
		}
	}
	return int(s.first), false
}

// span is the indices of the static entries of one name.
type span struct{ first, end uint8 }

var byName = func() map[string]span {
	m := make(map[string]span, staticLen)
	for i, e := range static {
		s, ok := m[e.name]
		if !ok {
			s.first = uint8(i + 1)
		}
		s.end = uint8(i + 2)
		m[e.name] = s
	}
	return m
}()

// appendInteger appends n with a prefix of that many bits, beside the bits of first.
func appendInteger(dst []byte, first byte, bits, n int) []byte {
	most := 1<<bits - 1
	if n < most {
		return append(dst, first|byte(n))
	}
	dst = append(dst, first|byte(most))
	for n -= most; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}

// AppendResize appends a change of the table's size. It may only begin a block.
func AppendResize(dst []byte, n int) []byte { return appendInteger(dst, 0x20, 5, n) }
