package wire

import "time"

// HurryFor is how long an intercept reports answers at once after a Hurry, as well as it can,
// rather than several at a time. A copier whose clients are ahead of their copies says so again
// before that is over.
const HurryFor = 100 * time.Millisecond

// AppendHurry appends a Hurry as a frame. It has no fields, and an intercept that does not know
// it leaves it out.
func AppendHurry(dst []byte) []byte { return AppendRaw(dst, TypeHurry, Skippable, nil) }
