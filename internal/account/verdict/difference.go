package verdict

import (
	"fmt"
	"strings"

	"tcpcopy/internal/proto"
)

// Kind is in what two answers differ.
type Kind string

// The kinds.
const (
	NoAnswer Kind = "no answer"
	Status   Kind = "status"
	Missing  Kind = "missing"
	Extra    Kind = "extra"
	Type     Kind = "type"
	Value    Kind = "value"
	Order    Kind = "order"
	Length   Kind = "length"
	End      Kind = "end" // of the connection
)

// content reports whether servers that are equal may differ in this way: then a difference says
// something only beside another answer to the same request.
func (k Kind) content() bool { return k == Value || k == Order || k == Length }

// difference is one path at which two answers differ.
type difference struct {
	path     string
	kind     Kind
	from, to string // what they have there, without values
	// expected: both have a value of a recognised kind, which differs between servers.
	expected proto.Recognised
	x, y     *proto.Field // what has another value; valid as long as the digests are
}

// compare appends the differences between an answer and another to the same request. Of a part that
// differs as a whole, its parts are left out. If unordered, another order of a list is no
// difference.
func (r *Rules) compare(all []difference, p, c *proto.Digest, unordered bool) []difference {
	if p.Status != c.Status {
		return append(all, difference{path: "status", kind: Status,
			from: proto.StatusText(p.Status), to: proto.StatusText(c.Status)})
	}
	partial := p.Skipped != proto.Compared || c.Skipped != proto.Compared
	if p.Skipped == proto.Headless || c.Skipped == proto.Headless {
		return all
	}
	var done []string // paths whose parts are not looked at
	x, y := p.Fields, c.Fields
	for len(x) > 0 || len(y) > 0 {
		var d difference
		whole, content := false, false
		switch {
		case len(y) == 0 || len(x) > 0 && x[0].Path < y[0].Path:
			d = difference{path: x[0].Path, kind: Missing, from: r.describe(&x[0]), to: "absent"}
			x, whole, content = x[1:], true, !x[0].IsHeader()
		case len(x) == 0 || y[0].Path < x[0].Path:
			d = difference{path: y[0].Path, kind: Extra, from: "absent", to: r.describe(&y[0])}
			y, whole, content = y[1:], true, !y[0].IsHeader()
		default:
			d = r.fieldDifference(&x[0], &y[0])
			whole, content = d.kind == Type || d.kind == Length, !x[0].IsHeader()
			x, y = x[1:], y[1:]
		}
		if d.kind == "" || partial && content || unordered && d.kind == Order ||
			within(d.path, done) {
			continue
		}
		if whole {
			done = append(done, d.path)
		}
		all = append(all, d)
	}
	return all
}

// within reports whether a path is one of the given ones, or a part of one.
func within(path string, all []string) bool {
	for _, w := range all {
		if rest, ok := strings.CutPrefix(path, w); ok &&
			(rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// fieldDifference compares what two answers have at one path. The kind is empty if that is the
// same.
func (r *Rules) fieldDifference(x, y *proto.Field) difference {
	if x.Types == y.Types && x.Count == y.Count && x.Sum == y.Sum && x.Order == y.Order &&
		(x.Types&proto.List == 0 || x.Length == y.Length) {
		return difference{}
	}
	d := difference{path: x.Path, from: r.describe(x), to: r.describe(y)}
	switch {
	case x.Types != y.Types:
		d.kind, d.from, d.to = Type, types(x.Types), types(y.Types)
	case x.Count > y.Count:
		d.kind = Missing
	case x.Count < y.Count:
		d.kind = Extra
	case x.Types&proto.List != 0 && x.Length != y.Length:
		d.kind = Length
	case x.Sum == y.Sum:
		d.kind = Order
	case x.Types == proto.Opaque && x.Length != y.Length:
		d.kind = Length
	default:
		d.kind, d.x, d.y = Value, x, y
		if x.Kind == y.Kind {
			d.expected = x.Kind
		}
	}
	return d
}

// describe says what an answer has at a path, without a value unless a rule shows it.
func (r *Rules) describe(f *proto.Field) string {
	if len(f.Values) > 0 && r.shows(f.Path) {
		return shownValues(f)
	}
	s := types(f.Types)
	if f.Kind != proto.Plain {
		s = f.Kind.String()
	}
	switch {
	case f.Length == 0 && f.IsHeader():
		return "present" // its value is not compared
	case f.Types == proto.List && f.Count == 1:
		return fmt.Sprintf("%s of %d", s, f.Length)
	case f.Count > 1:
		return fmt.Sprintf("%d × %s", f.Count, s)
	case f.Types == proto.Opaque:
		return fmt.Sprintf("%d bytes", f.Length)
	case f.Types == proto.Text || f.Types == proto.Number:
		return fmt.Sprintf("%s of %d bytes", s, f.Length)
	}
	return s
}

// types names a set of types.
func types(t proto.FieldTypes) string {
	var all []string
	for i, name := range []string{"null", "bool", "number", "text", "list", "object", "bytes"} {
		if t&(1<<i) != 0 {
			all = append(all, name)
		}
	}
	return strings.Join(all, "|")
}
