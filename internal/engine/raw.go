package engine

import (
	"errors"

	"tcpcopy/internal/export"
	"tcpcopy/internal/shard"
)

type rawWay struct{}

func openRaw(cp *copier) (*rawWay, error)           { return nil, errors.New("raw") }
func (r *rawWay) config() shard.Raw                 { return shard.Raw{} }
func (r *rawWay) sender() (sender, error)           { return nil, nil }
func (r *rawWay) ask([]shard.Tuple)                 {}
func (r *rawWay) connect(shards []*shardLoop) error { return nil }
func (r *rawWay) fill(s *export.Snapshot)           {}
func (r *rawWay) close()                            {}
