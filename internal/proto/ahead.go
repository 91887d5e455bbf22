package proto

import "slices"

// Ahead keeps captured bytes of a direction until those before them have come. The zero value is
// empty.
type Ahead struct {
	runs []run
	size int
}

// run is bytes from an offset on.
type run struct {
	off   uint64
	bytes []byte
}

const (
	maxAhead = 256 << 10 // bytes that are kept, with runCost for each run
	runCost  = 48
)

// Keep keeps a copy of bytes that begin at the offset off. It returns false if there is no room:
// there may be 256 KB, in most runs.
func (a *Ahead) Keep(off uint64, p []byte, most int) bool {
	size := a.size + len(p) + runCost
	if size > maxAhead || len(a.runs) == most {
		return false
	}
	a.runs, a.size = append(a.runs, run{off, slices.Clone(p)}), size
	return true
}

// Next returns the bytes from the offset at on of a run that it keeps no more, and true; false if
// those bytes have not come. It forgets what is before at.
func (a *Ahead) Next(at uint64) (p []byte, ok bool) {
	for i := 0; i < len(a.runs); {
		r := a.runs[i]
		if r.off > at {
			i++
			continue
		}
		a.runs = slices.Delete(a.runs, i, i+1)
		a.size -= len(r.bytes) + runCost
		if r.off+uint64(len(r.bytes)) > at {
			return r.bytes[at-r.off:], true
		}
	}
	return nil, false
}

// Size returns how many bytes of memory it takes.
func (a *Ahead) Size() int { return a.size }
