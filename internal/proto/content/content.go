// Package content makes digests of what answers contain, for the digesters of protocols: JSON field
// by field, forms by name, everything else as a whole.
//
// It is pure, and trusts no byte: input that is not what it says it is, too deep or too large is
// taken as a whole, or is skipped. What a compressed body inflates to is bounded.
package content

import (
	"bytes"
	"slices"
	"strings"

	"tcpcopy/internal/proto"
)

// maxFields bounds the paths of one answer.
const maxFields = 2048

// Builder collects the fields of one answer. New makes one.
type Builder struct {
	with   *proto.Digesting
	fields []proto.Field
	nodes  []*node // of fields
	paths  map[string]*node
	answer uint64 // the present answer's number, by which nodes know their field
	now    int64  // the time of the answer, in seconds since 1970; 0: unknown
	// before are the nodes of the last answer, and order the indices of its fields by path.
	before []*node
	order  []int32
	decode decoders
	shared map[string][]byte // see Share
	path   []byte            // scratch
	text   []byte            // scratch
}

// New returns the Builder that all digesters share which share with. They use it in turn.
func New(with *proto.Digesting) *Builder {
	b, ok := with.Scratch.(*Builder)
	if !ok {
		b = &Builder{with: with, paths: make(map[string]*node), answer: 1}
		with.Scratch = b
	}
	return b
}

// Bounds of what is shared.
const (
	maxShared     = 256
	maxSharedText = 2048
)

// Share returns a copy of p that does not change. Answers of one endpoint have the same headers
// most often, and then the same copy of them.
func (b *Builder) Share(p []byte) []byte {
	if len(p) == 0 {
		return nil
	}
	if s, ok := b.shared[string(p)]; ok {
		return s
	}
	s := bytes.Clone(p)
	if len(p) > maxSharedText {
		return s
	}
	if b.shared == nil || len(b.shared) == maxShared {
		b.shared = make(map[string][]byte)
	}
	b.shared[string(s)] = s
	return s
}

// Reset empties b for an answer that was given at the time now, in seconds since 1970; 0: unknown.
func (b *Builder) Reset(now int64) {
	b.fields, b.nodes = b.fields[:0], b.nodes[:0]
	b.answer++
	b.now = now
	if len(b.paths) > maxNodes {
		clear(b.paths)
		b.before = nil
	}
}

// Add adds a value of a type at a path. It returns false if there are too many paths.
func (b *Builder) Add(path, value []byte, as proto.FieldTypes) bool {
	return b.addAt(b.node(path), value, as)
}

func (b *Builder) addAt(n *node, value []byte, as proto.FieldTypes) bool {
	kind := proto.Plain
	switch as {
	case proto.Text:
		kind = recognise(value)
	case proto.Number:
		kind = b.epoch(value)
	}
	return b.add(n, b.with.Hash(value), uint64(len(value)), as, kind) && b.keep(n, value, as)
}

// keep keeps a value that was added, if it is wanted. It returns true.
func (b *Builder) keep(n *node, value []byte, as proto.FieldTypes) bool {
	if n.keeps {
		if as == proto.Null {
			value = []byte("null")
		}
		if f := &b.fields[n.field]; f.Types&(proto.Opaque|proto.List|proto.Object) == 0 &&
			f.Kind != proto.JWT {
			f.Keep(value)
		}
	}
	return true
}

// AddList adds a list of n elements at a path. Its elements are added next, at the path with []
// behind it.
func (b *Builder) AddList(path []byte, n uint64) bool {
	return b.add(b.node(path), 0, n, proto.List, proto.Plain)
}

// AddMessages adds a list of messages at a path. f has the hashes of them all.
func (b *Builder) AddMessages(path []byte, f *proto.Field) {
	n := b.node(path)
	if !b.add(n, 0, uint64(f.Count), proto.List, proto.Plain) || f.Count == 0 {
		return
	}
	path = append(append(b.path[:0], path...), "[]"...)
	b.path = path
	n = b.node(path)
	if b.add(n, 0, f.Length, f.Types, proto.Plain) {
		g := &b.fields[n.field]
		g.Count, g.Sum, g.Order = f.Count, f.Sum, f.Order
	}
}

// add adds the hash of a value.
func (b *Builder) add(n *node, hash, length uint64, as proto.FieldTypes,
	kind proto.Recognised) bool {
	if n.answer != b.answer {
		if len(b.fields) >= maxFields {
			return false
		}
		n.answer, n.field = b.answer, len(b.fields)
		b.fields = append(b.fields, proto.Field{Path: n.path, Kind: kind})
		b.nodes = append(b.nodes, n)
	}
	f := &b.fields[n.field]
	f.Add(hash, as)
	f.Length += length
	if f.Kind != kind {
		f.Kind = proto.Plain
	}
	return true
}

// mark returns how many fields there are, for cut.
func (b *Builder) mark() int { return len(b.fields) }

// cut removes the fields from the n-th on.
func (b *Builder) cut(n int) {
	for _, o := range b.nodes[n:] {
		o.answer = 0
	}
	b.fields, b.nodes = b.fields[:n], b.nodes[:n]
}

// fieldSize is roughly what a field takes, without its path, which is shared.
const fieldSize = 80

// Finish sets what was added as the fields of a digest.
func (b *Builder) Finish(d *proto.Digest, skipped proto.Skip) {
	if !slices.Equal(b.nodes, b.before) { // answers of one endpoint have the same fields in turn
		b.before = append(b.before[:0], b.nodes...)
		b.order = b.order[:0]
		for i := range b.nodes {
			b.order = append(b.order, int32(i))
		}
		slices.SortFunc(b.order, func(x, y int32) int {
			return strings.Compare(b.nodes[x].path, b.nodes[y].path)
		})
	}
	d.Fields = slices.Grow(d.Fields[:0], len(b.fields))
	for _, from := range b.order {
		d.Fields = append(d.Fields, b.fields[from])
	}
	d.Skipped = skipped
	d.Size = fieldSize * (1 + len(d.Fields))
	for i := range d.Fields {
		d.Size += len(d.Fields[i].Values) * (proto.MaxValue + 16)
	}
}
