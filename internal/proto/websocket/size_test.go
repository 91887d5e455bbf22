package websocket

import (
	"reflect"
	"strings"
	"testing"
)

// What a client holds counts, and is let go of.
func TestSize(t *testing.T) {
	if size := int(reflect.TypeFor[item]().Size()); size > itemCost || size < itemCost/2 {
		t.Errorf("an item takes %d bytes, counted as %d", size, itemCost)
	}
	const much = 60000
	r := upgraded(t, 0)
	if n := r.c.Size(); n > 10000 {
		t.Errorf("a connection without anything holds %d bytes", n)
	}
	packed := deflated(t, strings.Repeat("x", much), "y")
	r.feed(byClient(bitFin|bitDeflate|opText, packed[0]))
	if n := r.c.Size(); n < readerCost+window || n > readerCost+window+20000 {
		t.Errorf("a connection whose messages are inflated holds %d bytes", n)
	}
	r.serve(says("x"))
	r.feed(byClient(bitFin|bitDeflate|opText, packed[1]))
	r.feed(byClient(bitDeflate|opText, strings.Repeat("z", much)))
	if n := r.c.Size(); n < readerCost+window+much {
		t.Errorf("with part of a message it holds %d bytes", n)
	}

	r = newRig(t, 0)
	r.feed(asks)
	r.serve(accepts)
	r.feed(byClient(bitFin|opText, strings.Repeat("x", much)))
	if n := r.c.Size(); n < much {
		t.Errorf("before the target has accepted it holds %d bytes", n)
	}
	r.hear(accepts)
	if n := r.c.Size(); n > 10000 {
		t.Errorf("when all has gone it holds %d bytes", n)
	}
	r.serve(strings.Repeat(says("x"), 10*maxEnds))
	if n := r.c.Size(); n < 8*maxEnds/2 || n > 10000+16*maxEnds {
		t.Errorf("with a server that pushes it holds %d bytes", n)
	}
}
