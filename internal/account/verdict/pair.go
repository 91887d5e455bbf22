package verdict

import (
	"cmp"
	"slices"
	"strings"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/proto"
)

// Bounds of the pairs that are kept as examples.
const (
	maxPairs = 64 // in one shard
	maxRows  = 60 // of one pair
)

// Row is what two answers have at one path, without values.
type Row struct {
	Path   string `json:"path"`
	From   string `json:"production"`
	To     string `json:"target"`
	Differ Kind   `json:"differs,omitempty"` // empty: they are the same
}

// pair is two answers side by side.
type pair struct {
	at   mono.Time
	rows []Row
}

// absent is what an answer has at a path of another's.
const absent = "absent"

// pairOf describes an exchange, whose differences are found.
func (r *Rules) pairOf(x *session.Exchange, found []difference) *pair {
	p := &pair{at: x.At}
	at := make(map[string]*difference, len(found))
	for i := range found {
		if d := &found[i]; at[d.path] == nil {
			at[d.path] = d
		}
	}
	add := func(path, from, to string) {
		row := Row{Path: path, From: from, To: to}
		if d := at[path]; d != nil {
			row.Differ = d.kind
			delete(at, path)
		}
		p.rows = append(p.rows, row)
	}
	if x.Target != nil && !x.NoStatus {
		add("status", proto.StatusText(x.Production.Status), proto.StatusText(x.Target.Status))
	}
	var y []proto.Field
	if x.Target != nil {
		y = x.Target.Fields
	}
	for f := x.Production.Fields; len(f) > 0 || len(y) > 0; {
		switch {
		case len(y) == 0 || len(f) > 0 && f[0].Path < y[0].Path:
			add(f[0].Path, r.describe(&f[0]), absent)
			f = f[1:]
		case len(f) == 0 || y[0].Path < f[0].Path:
			add(y[0].Path, absent, r.describe(&y[0]))
			y = y[1:]
		default:
			add(f[0].Path, r.describe(&f[0]), r.describe(&y[0]))
			f, y = f[1:], y[1:]
		}
	}
	for i := range found { // what is at no path of a field: there is no answer, or one too many
		if d := &found[i]; at[d.path] == d {
			p.rows = append([]Row{{Path: d.path, From: d.from, To: d.to, Differ: d.kind}},
				p.rows...)
		}
	}
	p.shorten()
	return p
}

// shorten leaves out rows that do not differ, and then the last, until so many are left as are
// kept.
func (p *pair) shorten() {
	spare := len(p.rows) - maxRows
	if spare <= 0 {
		return
	}
	kept := p.rows[:0]
	for i := range p.rows {
		if p.rows[i].Differ == "" && spare > 0 {
			spare--
			continue
		}
		kept = append(kept, p.rows[i])
	}
	p.rows = kept[:min(len(kept), maxRows)]
}

// earlier reports whether p is to be shown rather than o: the first of all shards, so that the
// number of shards makes no difference.
func (p *pair) earlier(o *pair) bool {
	if p == nil || o == nil {
		return p != nil
	}
	return cmp.Or(cmp.Compare(p.at, o.at), slices.CompareFunc(p.rows, o.rows, compareRows)) < 0
}

func compareRows(a, b Row) int {
	return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.From, b.From),
		strings.Compare(a.To, b.To))
}
