package shard_test

import (
	"testing"

	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/test/rig"
)

// A connection is open from its first packet until its client ends it, however many copies it has.
func TestOpen(t *testing.T) {
	b := rig.NewBed(t, func(c *shard.Config) { c.Services[0].Copies = 2 })
	open := func(want int) {
		t.Helper()
		if got := b.Sh.Open(); got != want {
			t.Errorf("%d connections are open, want %d", got, want)
		}
	}
	open(0)
	c := b.Conn("192.0.2.1:40000").Syn()
	d := b.Conn("192.0.2.1:40001").Syn()
	open(2)
	c.Data("GET 1")
	d.Data("GET 2")
	c.Fin()
	open(1)
	for i := range 2 { // both copies of c
		finish(b, i)
	}
	open(1)
	d.Fin()
	open(0)
}
