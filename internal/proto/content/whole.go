package content

import "tcpcopy/internal/proto"

const (
	// MaxWhole bounds an answer that a Whole keeps, in bytes.
	MaxWhole = 1 << 20
	// wholePacked bounds one of which the fields are made when they are needed.
	wholePacked = 32 << 10
)

// Reader adds the fields of an answer to b. h is the Hint of its request. It returns false if the
// answer is not of the form that it should have.
type Reader func(b *Builder, answer []byte, h proto.Hint) bool

// Whole is a proto.Digester that keeps an answer's bytes until it is whole. Where an answer ends it
// takes from its caller.
type Whole struct {
	with   *proto.Digesting
	read   Reader
	hash   proto.Hash
	answer []byte
	over   bool // the answer is too large
}

// NewWhole returns the digester of one connection.
func NewWhole(with *proto.Digesting, read Reader) *Whole {
	d := &Whole{with: with, read: read}
	d.hash.Begin(with)
	return d
}

// Write is of proto.Digester.
func (d *Whole) Write(p []byte) {
	d.hash.Write(p)
	switch {
	case d.over:
	case len(d.answer)+len(p) > MaxWhole || d.with.Room < len(p):
		d.over = true
		d.free()
	default:
		d.with.Room -= len(p)
		d.answer = append(d.answer, p...)
	}
}

func (d *Whole) free() {
	d.with.Room += len(d.answer)
	d.answer = nil
}

// Close is of proto.Digester.
func (d *Whole) Close() {
	d.free()
	d.over = false
	d.hash.Begin(d.with)
}

// End is of proto.Digester.
func (d *Whole) End(a *proto.Answer) *proto.Digest {
	p := &whole{read: d.read, answer: d.answer, hint: a.Hint, over: d.over}
	p.Status, p.Sum, p.Size = a.Status, d.hash.Sum(), wholeSize+cap(d.answer)
	if p.Packed = p; len(p.answer) > wholePacked {
		p.Digest.Unpack(d.with)
	}
	d.Close()
	return &p.Digest
}

// whole is an answer of which the fields are not needed yet.
type whole struct {
	proto.Digest
	read   Reader
	answer []byte
	hint   proto.Hint
	over   bool
}

// wholeSize is roughly what a whole takes, without the answer's bytes.
const wholeSize = 168

// Unpack is of proto.Packed.
func (p *whole) Unpack(with *proto.Digesting, d *proto.Digest) {
	b, skip := New(with), proto.Compared
	b.Reset(0)
	if p.over {
		skip = proto.Oversize
	} else if !p.read(b, p.answer, p.hint) {
		b.Reset(0)
		skip = proto.UnknownEncoding
	}
	b.Finish(d, skip)
	p.answer = nil
}

// Drop is of proto.Packed. Most answers are small.
func (p *whole) Drop(*proto.Digesting) { p.answer = nil }
