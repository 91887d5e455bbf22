package shard

import "testing"

// A connection is open from its first packet until its client ends it, however many copies it has.
func TestOpen(t *testing.T) {
	b := newBed(t, func(c *Config) { c.Services[0].Copies = 2 })
	open := func(want int) {
		t.Helper()
		if got := b.sh.Open(); got != want {
			t.Errorf("%d connections are open, want %d", got, want)
		}
	}
	open(0)
	c := b.conn("192.0.2.1:40000").syn()
	d := b.conn("192.0.2.1:40001").syn()
	open(2)
	c.data("GET 1")
	d.data("GET 2")
	c.fin()
	open(1)
	for i := range 2 { // both copies of c
		b.finish(i)
	}
	open(1)
	d.fin()
	open(0)
}
