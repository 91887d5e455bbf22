//go:build !amd64

package sys

// forbiddenHere are forbidden calls that only this architecture has.
var forbiddenHere []uint32
