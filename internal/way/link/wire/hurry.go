package wire

import "time"

// HurryFor is how long after a Hurry an intercept reports each answer at once, rather than several
// together. A copier whose clients are ahead of their copies repeats Hurry within that time.
const HurryFor = 100 * time.Millisecond

// AppendHurry appends a Hurry as a frame. It has no fields. An intercept that does not know it
// ignores it.
func AppendHurry(dst []byte) []byte { return AppendRaw(dst, TypeHurry, Skippable, nil) }
