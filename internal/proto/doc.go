// Package proto defines what a protocol is: where its requests and answers end, and what the target
// is sent where a copy cannot be the client's very bytes.
//
// A protocol has two readers. A Client reads the client's direction, in its session at the copier. An
// Answers reads the target's direction where that payload is: in the poller of a socket, or at an
// intercept. What an Answers must know of a request (that it was a HEAD, for example) travels to it
// as a Hint; what comes back is an Answer. The protocols are subpackages; package known lists them.
//
// The packages of the group are pure: they do no I/O, read no clock, start no goroutine, and use no
// channel and no randomness. They import packages of group core below session, and nothing else of
// this module. A reader must trust no byte. It never panics, keeps a bounded number of bytes, and
// returns the same however its input is split. A reader that cannot follow its input returns an error
// and is not called again. The session then goes on by guessing, or ends if the copy's bytes are made
// by the protocol (Client.Edits).
//
// Read proto.go first, then http1.
package proto
