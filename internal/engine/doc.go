// Package engine is the data path of tcpcopy copy, record and replay. It opens one source, the shards
// and their way to the target, joins them with goroutines, and ends them in order.
//
// The goroutines are one reader, which takes batches from the source and deals them to the shards;
// one for each shard, which alone touches its sessions; those of the way; and the caller of Run,
// which prints and waits.
//
// The package imports every group below it: config, source, way, account, core, proto and sys. It
// must not decide anything about a session, and never lets production wait.
//
// Read engine.go first.
package engine
