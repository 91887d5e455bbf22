// Package content makes digests of what answers contain, for the digesters of protocols: JSON field
// by field, forms by name, everything else as a whole.
//
// It is pure, and trusts no byte: input that is not what it says it is, too deep or too large is
// taken as a whole, or is skipped. What a compressed body inflates to is bounded.
package content

import (
	"slices"
	"strings"

	"tcpcopy/internal/proto"
)

// maxFields bounds the paths of one answer.
const maxFields = 2048

// Builder collects the fields of one answer. The zero value is not usable; New makes one.
type Builder struct {
	with   *proto.Digesting
	fields []proto.Field
	at     map[string]int // of a path, in fields
	now    int64          // the time of the answer, in seconds since 1970; 0: unknown
	body   Body           // of the present answer
	path   []byte         // scratch
	text   []byte         // scratch
}

// New returns a Builder without fields.
func New(with *proto.Digesting) *Builder {
	return &Builder{with: with, at: make(map[string]int)}
}

// Reset empties b for an answer that was given at the time now, in seconds since 1970; 0: unknown.
func (b *Builder) Reset(now int64) {
	b.fields = b.fields[:0]
	clear(b.at)
	b.now = now
}

// At sets the time of the answer, in seconds since 1970.
func (b *Builder) At(now int64) { b.now = now }

// Add adds a value of a type at a path. It returns false if there are too many paths.
func (b *Builder) Add(path, value []byte, as proto.FieldTypes) bool {
	kind := proto.Plain
	switch as {
	case proto.Text:
		kind = recognise(value)
	case proto.Number:
		kind = b.epoch(value)
	}
	return b.add(path, b.with.Hash(value), uint64(len(value)), as, kind)
}

// AddList adds a list of n elements at a path. Its elements are added next, at the path with []
// behind it.
func (b *Builder) AddList(path []byte, n uint64) bool {
	return b.add(path, 0, n, proto.List, proto.Plain)
}

// add adds the hash of a value.
func (b *Builder) add(path []byte, hash, length uint64, as proto.FieldTypes,
	kind proto.Recognised) bool {
	i, ok := b.at[string(path)]
	if !ok {
		if len(b.fields) >= maxFields {
			return false
		}
		name := b.with.Path(path)
		if i, ok = b.at[name]; !ok { // a path that is too long to be kept whole
			i = len(b.fields)
			b.at[name] = i
			b.fields = append(b.fields, proto.Field{Path: name, Kind: kind})
		}
	}
	f := &b.fields[i]
	hash = mix(hash + uint64(as)*0x9e3779b97f4a7c15)
	f.Types |= as
	f.Count++
	f.Sum += hash
	f.Order = mix(f.Order + hash)
	f.Length += length
	if f.Kind != kind {
		f.Kind = proto.Plain
	}
	return true
}

// mix is the finaliser of splitmix64: sums of its results do not cancel each other out.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// mark returns how many fields there are, for cut.
func (b *Builder) mark() int { return len(b.fields) }

// cut removes the fields from the n-th on.
func (b *Builder) cut(n int) {
	for _, f := range b.fields[n:] {
		delete(b.at, f.Path)
	}
	b.fields = b.fields[:n]
}

// fieldSize is roughly what a field takes, without its path, which is shared.
const fieldSize = 64

// Digest returns the digest of what was added.
func (b *Builder) Digest(status uint16, skipped proto.Skip) *proto.Digest {
	slices.SortFunc(b.fields, func(x, y proto.Field) int { return strings.Compare(x.Path, y.Path) })
	return &proto.Digest{Status: status, Fields: slices.Clone(b.fields), Skipped: skipped,
		Size: fieldSize * (1 + len(b.fields))}
}
