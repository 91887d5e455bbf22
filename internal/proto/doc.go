// Package proto defines what a protocol is: how it is recognised, where its requests and answers
// end, which options it has, and, where a copy cannot send the client's bytes as they are, what it
// sends instead.
//
// A Protocol makes two readers. A Client reads the client's direction, within a session at the
// copier. An Answers reads the target's direction where that payload is: at the reader of a
// socket, or at an intercept. What an Answers must know of a request (that it was a HEAD, for
// instance) travels to it as a Hint; what comes back is an Answer. The protocols are subpackages;
// package known lists them.
//
// The readers are pure, and trust no byte: they never panic, keep a bounded number of bytes, and
// find the same however their input is split. A reader that cannot follow its input returns an
// error once and is not called again. The session then goes on by guessing where answers end, or
// ends where the reader makes the copy's bytes (Client.Edits).
//
// A new protocol is a folder here and a line in package known. A protocol whose connection carries
// streams, whose answers come out of order, has a Client that is a Streams. What a comparison needs
// of an answer is its Digest, which a Digester makes where the bytes are.
//
// The packages of the group are pure: they do no I/O, read no clock, start no goroutine, and use no
// channel and no randomness. They import packages of group core below session, and nothing else of
// this module. They must not know how a copy reaches the target, or where bytes come from.
//
// Read protocol.go first, then internal/test/toyproto, a whole protocol in one file.
package proto
