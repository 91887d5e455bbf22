// Package core groups the packages that say what a copy is: time and sequence numbers, packets,
// the client's bytes in order, the rule that holds a turn back, sessions, and shards of sessions.
//
// The packages of the group are pure. They do no I/O, read no clock, start no goroutine, and use no
// channel and no randomness; time and input are parameters. They import package proto, and nothing
// else outside the group. They must not know how a copy reaches the target, where packets come
// from, or which protocols exist.
//
// Read session/session.go first, then shard/shard.go.
package core
