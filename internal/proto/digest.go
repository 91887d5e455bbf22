package proto

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
)

// Digest is what a comparison knows of an answer: for each of its fields a path, a type, and a
// keyed hash of the value.
type Digest struct {
	Status uint16
	// Sum is a keyed hash of everything that is compared, in the form in which it came. Answers
	// with the same Status and the same Sum are equal; with different ones, they may be. 0: it is
	// not known.
	Sum uint64
	// Size is how many bytes the digest takes, roughly.
	Size int
	// Fields are sorted by Path, and have each path once.
	Fields []Field
	// Skipped reports why the content is in no field; Compared where it is.
	Skipped Skip
	// Packed, if not nil, is what Fields and Skipped are made of by Unpack. Most answers are equal,
	// and their fields are never needed.
	Packed Packed
}

// GRPCStatus is added to a status of gRPC: no status of HTTP, and no code of an error, is so large.
const GRPCStatus = 60000

// StatusText returns a status as reports show it.
func StatusText(status uint16) string {
	if status >= GRPCStatus {
		return fmt.Sprintf("grpc %d", status-GRPCStatus)
	}
	return strconv.Itoa(int(status))
}

// Packed holds an answer, or its fields, in another form.
type Packed interface {
	// Unpack sets the Fields, Skipped and Size of d, whose Fields are memory for them. with has the
	// Seed of d's digester. It is called once at most.
	Unpack(with *Digesting, d *Digest)
	// Drop gives back the memory, which may include the digest.
	Drop(with *Digesting)
}

// Buffers lends memory for answers that are compared. Several goroutines may share it.
type Buffers interface {
	// Get returns an empty buffer that has room for n bytes.
	Get(n int) []byte
	// Put takes back a buffer, which nobody uses any more.
	Put(p []byte)
	// GetPacked returns one of those that PutPacked has taken, of any type; nil if there is none.
	GetPacked() Packed
	// PutPacked takes a digest that nobody uses any more. It must refer to nothing large.
	PutPacked(p Packed)
}

// Unpack makes the fields, if they are still packed.
func (d *Digest) Unpack(with *Digesting) {
	if p := d.Packed; p != nil {
		d.Packed = nil
		p.Unpack(with, d)
	}
}

// MoveTo unpacks d into to, whose Fields are memory for it, and returns that. If d was unpacked
// before, it returns d. Nobody may use d otherwise after that.
func (d *Digest) MoveTo(to *Digest, with *Digesting) *Digest {
	p := d.Packed
	if p == nil {
		return d
	}
	*to = Digest{Status: d.Status, Sum: d.Sum, Fields: to.Fields[:0]}
	p.Unpack(with, to)
	p.Drop(with)
	return to
}

// Drop gives back the memory of a digest that is not needed any more, and was not unpacked. Nobody
// may use it after that.
func (d *Digest) Drop(with *Digesting) {
	if p := d.Packed; p != nil {
		d.Packed = nil
		p.Drop(with)
	}
}

// Same reports whether two answers are known to be equal. If they are not, their fields tell.
func (d *Digest) Same(o *Digest) bool {
	return d.Status == o.Status && d.Sum == o.Sum && d.Sum != 0
}

// Skip is why the content of an answer is not compared.
type Skip uint8

// The reasons.
const (
	Compared        Skip = iota
	Oversize             // it is larger than the bounds allow
	UnknownEncoding      // it cannot be decoded
	Headless             // as Oversize, and nothing is known of the headers, either
)

// FieldTypes is a set of the types of the values at one path.
type FieldTypes uint8

// The types.
const (
	Null FieldTypes = 1 << iota
	Bool
	Number
	Text
	List
	Object
	Opaque // bytes
)

// Recognised is a kind of value that is expected to differ between two servers.
type Recognised uint8

// The recognised kinds.
const (
	Plain Recognised = iota // an ordinary value
	UUID
	Timestamp // of RFC 3339
	Epoch     // seconds, or thousandths, since 1970, near the answer's Date
	JWT
)

var recognised = [...]string{Plain: "", UUID: "UUID", Timestamp: "RFC 3339 time",
	Epoch: "epoch time", JWT: "JWT"}

// String returns the kind's name; empty for Plain.
func (r Recognised) String() string { return recognised[r] }

// Field is what an answer has at one path. Elements of a list share a path.
type Field struct {
	Path  string // "header content-type", "body", "body.items[].id"
	Types FieldTypes
	Kind  Recognised // of all values
	Count uint32     // values at the path
	// Sum does not depend on the order of the values, and Order does.
	Sum, Order uint64
	// Length is the length of the only value in bytes, or the number of elements of lists.
	Length uint64
	// Values are the first values, in their order, if the path is one of Wanted.Values.
	Values []string
}

// Keep keeps a value, if it is one of the first.
func (f *Field) Keep(value []byte) {
	if len(f.Values) < MaxValues {
		f.Values = append(f.Values, printable(value[:min(len(value), MaxValue)]))
	}
}

// IsHeader reports whether a field is that of a header or a trailer, not of the content.
func (f *Field) IsHeader() bool {
	return strings.HasPrefix(f.Path, HeaderPath) || strings.HasPrefix(f.Path, TrailerPath)
}

// HeaderPath begins the paths of headers, and TrailerPath those of trailers.
const (
	HeaderPath  = "header "
	TrailerPath = "trailer "
)

// Add adds the hash of a value.
func (f *Field) Add(hash uint64, as FieldTypes) {
	hash = mix(hash + uint64(as)*0x9e3779b97f4a7c15)
	f.Types |= as
	f.Count++
	f.Sum += hash
	f.Order = mix(f.Order + hash)
}

// OnlyOrder returns the Order of a field that has one value, which follows from its Sum.
func (f *Field) OnlyOrder() uint64 { return mix(f.Sum) }

// mix is the finaliser of splitmix64: sums of its results do not cancel each other out.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Digesting is what the Digesters of one goroutine share. The zero value is not usable.
type Digesting struct {
	Seed  uint64            // key of the hashes
	Room  int               // bytes that Digesters may still keep of answers that have not ended
	Paths map[string]string // the paths that were seen, each once
	// Buffers lends memory for answers; nil: it is not used again.
	Buffers Buffers
	// Scratch is memory of package content, which all Digesters use in turn.
	Scratch any
	// Wanted does not change once digests are made.
	Wanted Wanted
}

// NewDigesting returns what the Digesters of one goroutine share, which keep at most room bytes.
// Digests are comparable if they have the same seed.
func NewDigesting(seed uint64, room int) *Digesting {
	return &Digesting{Seed: seed, Room: room, Paths: make(map[string]string)}
}

// Buffer returns an empty buffer that has room for n bytes.
func (d *Digesting) Buffer(n int) []byte {
	if d.Buffers == nil {
		return make([]byte, 0, n)
	}
	return d.Buffers.Get(n)
}

// Free gives back a buffer, which nobody uses any more.
func (d *Digesting) Free(p []byte) {
	if d.Buffers != nil {
		d.Buffers.Put(p)
	}
}

// Again returns a digest that was dropped, to be used again; nil if there is none, or it is of
// another type than P.
func Again[P Packed](d *Digesting) (p P) {
	if d.Buffers != nil {
		p, _ = d.Buffers.GetPacked().(P)
	}
	return p
}

// Retire keeps a digest that was dropped for Again. It must refer to nothing large.
func (d *Digesting) Retire(p Packed) {
	if d.Buffers != nil {
		d.Buffers.PutPacked(p)
	}
}

// Bounds of Digesting.Paths.
const (
	maxPaths = 1 << 13
	maxPath  = 256
)

// Path returns p as a string, which it makes once.
func (d *Digesting) Path(p []byte) string {
	p = p[:min(len(p), maxPath)]
	if s, ok := d.Paths[string(p)]; ok {
		return s
	}
	s := printable(p)
	if len(d.Paths) < maxPaths {
		d.Paths[string(p)] = s
	}
	return s
}

// printable returns p without characters that a terminal might obey. It is not longer than p.
func printable(p []byte) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return '_'
		}
		return r
	}, string(p))
}

// Hash returns the keyed hash of a value.
func (d *Digesting) Hash(p []byte) uint64 {
	var h Hash
	h.Begin(d)
	h.Write(p)
	return h.Sum()
}

// Hash is a keyed hash of bytes that come in pieces. Copiers and intercepts compute the same.
type Hash struct{ x xxhash.Digest }

// Begin begins a hash.
func (h *Hash) Begin(with *Digesting) { h.x.ResetWithSeed(with.Seed) }

// Write adds bytes.
func (h *Hash) Write(p []byte) { _, _ = h.x.Write(p) }

// Sum returns the hash of the bytes so far.
func (h *Hash) Sum() uint64 { return h.x.Sum64() }

// Digester makes a Digest of each answer on one connection. Package content does what is common to
// protocols.
type Digester interface {
	// Write takes the next bytes of the present answer, interim answers included. It keeps a
	// bounded number of them.
	Write(p []byte)
	// End ends the present answer, and returns its digest.
	End(a *Answer) *Digest
	// Close frees what is kept of an answer that has not ended.
	Close()
}

// StreamDigester is a Digester of a connection that carries streams. It is given all bytes of the
// connection from the first on, and finds by itself where answers end. Its End returns nil.
type StreamDigester interface {
	Digester
	// Next returns the digest of an answer that has ended, with the number of its stream; nil if
	// there is no other.
	Next() (stream uint64, d *Digest)
}

// Labeller names the requests of one connection for a comparison.
type Labeller interface {
	// Write takes the next bytes of the present request.
	Write(p []byte)
	// End ends the present request. It returns the endpoint that the request belongs to, from
	// which parts that look like identifiers are left out, and a keyed hash of the whole request.
	End() (endpoint string, hash uint64)
}

// StreamLabeller is a Labeller of a connection that carries streams. A request ends for End where
// it is known what it is for; more of it may follow.
type StreamLabeller interface {
	Labeller
	// Ended returns the stream of a request that is whole, and a keyed hash of it that takes the
	// place of the one before; ok is false if there is no other.
	Ended() (stream, hash uint64, ok bool)
}

// Comparison makes what a comparison of two servers' answers in a protocol needs.
type Comparison struct {
	NewDigester func(*Digesting) Digester
	NewLabeller func(*Digesting) Labeller
	// Unordered reports whether lists in the answers of an endpoint may be in any order; nil: in
	// none of them.
	Unordered func(endpoint string) bool
	// NeedsServer: the Labeller can be told where requests end only by what the server has said.
	NeedsServer bool
}
