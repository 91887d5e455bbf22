// Package engine is the data path of tcpcopy copy, replay and record. It joins one source of
// packets, the shards, and one way to the targets, and ends them in order. It knows no way by
// name, and of sources only how they are opened.
//
// The goroutines: one reader, which takes batches from the source and deals their packets to the
// shards; one for each shard, which alone touches it; those of the source and of the way; and the
// caller of Run, which prints, reloads and waits. Only a shard's goroutine touches its sessions.
//
// It may import everything but app and lab. It never reads or writes packets itself. Start with
// engine.go (Run), then reader.go and shardloop.go.
package engine
