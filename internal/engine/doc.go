// Package engine is the data path of tcpcopy copy, record and replay. It joins one source of
// packets, the shards, and one way to the targets, and ends them in order. It knows no way by
// name, and of sources only how they are opened.
//
// The goroutines are one reader, which takes batches from the source and deals their packets to
// the shards; one for each shard, which alone touches its sessions; those of the source and of the
// way; and the caller of Run, which prints, reloads and waits.
//
// The package imports every group below it: config, source, way, account, core, proto and sys. It
// must not decide anything about a session, and never lets production wait.
//
// Read engine.go first (Run), then reader.go and shardloop.go.
package engine
