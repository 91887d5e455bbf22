package wire

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"tcpcopy/internal/proto"
)

// Digests is set by a copier that compares answers, whose Hello has the Seed of their digests, and
// by an intercept that makes them: each answer that it reports has one. Both compute them alike: a
// change of what a digest is needs another capability.
const Digests Capabilities = 1 << 3

// Names is set like Digests, by ends whose digests have what a user has named (proto.Wanted). The
// copier's Hello has the names.
const Names Capabilities = 1 << 5

// hasValues is added to the kind of a field.
const hasValues = 0x80

// MaxDigest bounds the fields of one digest in bytes. In a record of an answer they follow its age:
//
//	digest: sum 64 · skipped 8 · length varint · fields
//	field:  bytes that its path shares with the one before varint · length varint, the others
//	        · types 8 · kind 8 · count varint · sum 64 · if count > 1: order 64 · length varint
//	        · if kind has hasValues: how many values varint · each of them: length 8, bytes
const MaxDigest = 60 << 10

// digestRoom is how many bytes an intercept keeps of answers that have not ended, for one
// connection of a copier.
const digestRoom = 8 << 20

// Digesting returns a function that makes what the digesters of one goroutine share; nil if the
// copier compares no answers.
func (h *Hello) Digesting() func() *proto.Digesting {
	if !h.Capabilities.Has(Digests) {
		return nil
	}
	seed, wanted := h.Seed, h.Wanted
	return func() *proto.Digesting {
		d := proto.NewDigesting(seed, digestRoom)
		d.Wanted = wanted
		return d
	}
}

// appendDigest appends a digest, which is not packed. Where it is too large, it appends the fields
// of headers alone.
func appendDigest(dst []byte, d *proto.Digest) []byte {
	dst = append(binary.BigEndian.AppendUint64(dst, d.Sum), byte(d.Skipped))
	from := len(dst)
	dst = appendFields(dst, d.Fields, false)
	if len(dst)-from > MaxDigest {
		dst[from-1] = byte(proto.Oversize)
		dst = appendFields(dst[:from], d.Fields, true)
	}
	if len(dst)-from > MaxDigest {
		dst[from-1] = byte(proto.Headless)
		dst = dst[:from]
	}
	var size [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(size[:], uint64(len(dst)-from))
	return slices.Insert(dst, from, size[:n]...)
}

// appendFields appends fields, up to the first with which they are more than MaxDigest.
func appendFields(dst []byte, all []proto.Field, headersOnly bool) []byte {
	last, from := "", len(dst)
	for i := range all {
		f := &all[i]
		if headersOnly && !f.IsHeader() {
			continue
		}
		n := 0
		for n < min(len(last), len(f.Path)) && last[n] == f.Path[n] {
			n++
		}
		last = f.Path
		dst = binary.AppendUvarint(dst, uint64(n))
		dst = append(binary.AppendUvarint(dst, uint64(len(f.Path)-n)), f.Path[n:]...)
		kind := byte(f.Kind)
		if len(f.Values) > 0 {
			kind |= hasValues
		}
		dst = binary.AppendUvarint(append(dst, byte(f.Types), kind), uint64(f.Count))
		dst = binary.BigEndian.AppendUint64(dst, f.Sum)
		if f.Count > 1 {
			dst = binary.BigEndian.AppendUint64(dst, f.Order)
		}
		dst = binary.AppendUvarint(dst, f.Length)
		if len(f.Values) > 0 {
			dst = binary.AppendUvarint(dst, uint64(len(f.Values)))
			for _, v := range f.Values {
				dst = appendText(dst, v)
			}
		}
		if len(dst)-from > MaxDigest {
			break
		}
	}
	return dst
}

// appendWanted appends what a user has named.
func appendWanted(dst []byte, w *proto.Wanted) []byte {
	for _, list := range [...][]string{w.Values, w.Headers} {
		list = list[:min(len(list), proto.MaxWanted)]
		dst = append(dst, byte(len(list)))
		for _, s := range list {
			dst = appendText(dst, s)
		}
	}
	return dst
}

func (c *cursor) wanted() (w proto.Wanted) {
	for _, list := range [...]*[]string{&w.Values, &w.Headers} {
		n := int(c.u8())
		c.bad = c.bad || n > proto.MaxWanted
		for i := 0; i < n && !c.short && !c.bad; i++ {
			*list = append(*list, c.text())
		}
	}
	return w
}

// packed is a digest as it came. Most often its fields are not needed.
type packed struct {
	proto.Digest
	skipped proto.Skip
	fields  []byte
}

// packedSize is roughly what a packed digest takes, without its bytes.
const packedSize = 128

// digest reads what appendDigest has appended, and copies it.
func (c *cursor) digest(status uint16) *proto.Digest {
	p := &packed{Digest: proto.Digest{Status: status, Sum: c.u64()}, skipped: proto.Skip(c.u8())}
	n := c.uvarint()
	if n > MaxDigest {
		c.bad, c.b = true, nil
		return nil
	}
	p.fields = bytes.Clone(c.bytes(int(n)))
	p.Packed, p.Size = p, packedSize+len(p.fields)
	return &p.Digest
}

// Unpack is of proto.Packed. Fields that cannot be read are none, and the answer is compared
// without its content.
func (p *packed) Unpack(with *proto.Digesting, d *proto.Digest) {
	c := cursor{b: p.fields}
	d.Skipped = min(p.skipped, proto.Headless)
	var path []byte
	for len(c.b) > 0 {
		shared := c.uvarint()
		if shared > uint64(len(path)) {
			c.bad = true
			break
		}
		path = append(path[:shared], c.bytes(int(min(c.uvarint(), MaxDigest)))...)
		f := proto.Field{Path: with.Path(path), Types: proto.FieldTypes(c.u8())}
		kind := c.u8()
		f.Kind, f.Count, f.Sum = proto.Recognised(kind&^hasValues), uint32(c.uvarint()), c.u64()
		if f.Order = f.OnlyOrder(); f.Count > 1 {
			f.Order = c.u64()
		}
		f.Length = c.uvarint()
		if kind&hasValues != 0 {
			c.values(&f, with.Wanted.Keeps(f.Path))
		}
		if c.short || f.Kind > proto.JWT ||
			len(d.Fields) > 0 && strings.Compare(d.Fields[len(d.Fields)-1].Path, f.Path) >= 0 {
			c.bad = true
		}
		if c.bad {
			break
		}
		d.Fields = append(d.Fields, f)
	}
	if c.bad || c.short {
		d.Fields, d.Skipped = nil, proto.Headless
	}
	d.Size, p.fields = packedSize*(1+len(d.Fields)), nil
	for i := range d.Fields {
		d.Size += len(d.Fields[i].Values) * proto.MaxValue
	}
}

// values reads the values of a field, and keeps them if they are wanted.
func (c *cursor) values(f *proto.Field, wanted bool) {
	n := c.uvarint()
	c.bad = c.bad || n > proto.MaxValues
	for i := uint64(0); i < n && !c.short && !c.bad; i++ {
		if v := c.bytes(int(c.u8())); wanted {
			f.Keep(v)
		}
	}
}

// Drop is of proto.Packed.
func (p *packed) Drop(*proto.Digesting) { p.fields = nil }
