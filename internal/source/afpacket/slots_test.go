package afpacket_test

import (
	"errors"
	"fmt"
	"math"
	"net"
	"testing"
	"time"

	"tcpcopy/internal/source/afpacket"
	"tcpcopy/internal/test/testnet"
)

// one sends a packet and waits for it, or for more that are said to have been sent before it.
func one(t *testing.T, s *afpacket.Source, c net.PacketConn, more int) (took time.Duration) {
	t.Helper()
	start := time.Now()
	send(t, c, c.LocalAddr(), []byte("one"))
	for left := more + 1; left > 0; {
		frames, err := s.Next(deadline)
		if err != nil || len(frames) == 0 {
			t.Fatal(frames, err)
		}
		left -= len(frames)
	}
	return time.Since(start)
}

// TestImmediate: no frame waits for the end of a block's time.
func TestImmediate(t *testing.T) {
	testnet.Enter(t)
	const block = time.Second
	s := open(t, afpacket.Config{
		Immediate: true, BlockTimeout: block, IgnoreOutgoing: true, Filter: udpOnly(t, 1<<16),
	})
	c := udp(t, "127.0.0.1:0")
	for n := range 5 {
		if took := one(t, s, c, 0); took >= block/2 {
			t.Errorf("packet %d came after %v", n, took)
		}
	}
	if st := s.Stats(); st.Offered != 5 || st.Delivered != 5 {
		t.Errorf("%+v", st)
	}
}

// TestPause: what comes soon after a batch waits for others, but not in a hurry.
func TestPause(t *testing.T) {
	testnet.Enter(t)
	const pause = time.Second
	s := open(t, afpacket.Config{
		Immediate: true, Pause: pause, IgnoreOutgoing: true, Filter: udpOnly(t, 1<<16),
	})
	c := udp(t, "127.0.0.1:0")
	if took := one(t, s, c, 0); took >= pause/2 {
		t.Errorf("the first packet came after %v", took)
	}
	send(t, c, c.LocalAddr(), []byte("more"))
	if took := one(t, s, c, 1); took < pause/2 {
		t.Errorf("the next packets came after %v", took)
	}
	if frames, err := s.Next(0); len(frames) > 0 || err != nil {
		t.Error(frames, err)
	}
	s.Hurry(time.Minute)
	for n := range 3 {
		if took := one(t, s, c, 0); took >= pause/2 {
			t.Errorf("in a hurry, packet %d came after %v", n, took)
		}
	}
}

// TestSlotsDropsAreCounted: as TestDropsAreCounted.
func TestSlotsDropsAreCounted(t *testing.T) {
	testnet.Enter(t)
	s := open(t, afpacket.Config{
		Immediate: true, IgnoreOutgoing: true, Filter: udpOnly(t, 1<<16),
		Memory: 1 << 20, BlockSize: 256 << 10,
	})
	const count, slots = 3000, 512
	flood(t, count, 1400)
	var got uint64
	for {
		frames, err := s.Next(100 * time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if len(frames) == 0 {
			break
		}
		got += uint64(len(frames))
	}
	st := s.Stats()
	if got != slots || st.Offered != count || st.Delivered != got || st.Dropped != count-got {
		t.Errorf("%d frames read; %+v", got, st)
	}
	one(t, s, udp(t, "127.0.0.1:0"), 0)
}

func TestSlotsAllocateNothing(t *testing.T) {
	allocatesNothing(t, afpacket.Config{Immediate: true}, 8000, 10)
}

// TestWhole: packets that the queue has no room for are cut, or, with Whole, dropped.
func TestWhole(t *testing.T) {
	for _, whole := range []bool{false, true} {
		t.Run(fmt.Sprint(whole), func(t *testing.T) {
			testnet.Enter(t)
			s := open(t, afpacket.Config{
				Immediate: true, IgnoreOutgoing: true, Filter: udpOnly(t, 1<<16), Queue: 64 << 10,
				Whole: whole,
			})
			const count, size = 40, 10_000
			flood(t, count, size)
			got, cut := 0, 0
			for {
				frames, err := s.Next(50 * time.Millisecond)
				if err != nil {
					t.Fatal(err)
				}
				if len(frames) == 0 {
					break
				}
				got += len(frames)
				for i := range frames {
					if len(frames[i].Data) < frames[i].Wire {
						cut++
					}
				}
			}
			st, load := s.Stats(), s.Load()
			switch {
			case load.Cut == 0 || load.Cut >= count:
				t.Fatalf("%d of %d packets were cut, wanted some", load.Cut, count)
			case whole && (cut > 0 || st.Dropped != load.Cut || got+int(load.Cut) != count):
				t.Errorf("%d frames, %d of them cut; %+v, %+v", got, cut, st, load)
			case !whole && (cut != int(load.Cut) || st.Dropped > 0 || got != count):
				t.Errorf("%d frames, %d of them cut; %+v, %+v", got, cut, st, load)
			}
			if st.Offered != st.Delivered+st.Dropped {
				t.Errorf("%+v", st)
			}
			one(t, s, udp(t, "127.0.0.1:0"), 0)
		})
	}
}

// TestNoQueue: a queue that cannot be had is an error where packets must be whole.
func TestNoQueue(t *testing.T) {
	testnet.Enter(t)
	cfg := afpacket.Config{Immediate: true, Queue: math.MaxInt32, Whole: true}
	if s, err := afpacket.Open(cfg); !errors.Is(err, afpacket.ErrQueue) {
		t.Errorf("%v, %v, wanted %v", s, err, afpacket.ErrQueue)
	}
	cfg.Whole = false
	open(t, cfg)
	cfg.Whole, cfg.Queue = true, math.MaxInt32/2
	open(t, cfg)
}

// TestLargeInTurns: one batch has no more packets that are larger than a slot than there is room
// for, and the next ones have the rest.
func TestLargeInTurns(t *testing.T) {
	testnet.Enter(t)
	s := open(t, afpacket.Config{
		Immediate: true, IgnoreOutgoing: true, Filter: udpOnly(t, 1<<16), Queue: 32 << 20,
	})
	const count, size = 100, 30_000
	flood(t, count, size)
	for got, batches := 0, 0; got < count; batches++ {
		frames, err := s.Next(deadline)
		if err != nil || len(frames) == 0 {
			t.Fatalf("after %d packets: %d, %v", got, len(frames), err)
		}
		bytes := 0
		for i := range frames {
			bytes += len(frames[i].Data)
			if len(frames[i].Data) < size {
				t.Errorf("packet %d has %d bytes", got+i, len(frames[i].Data))
			}
		}
		if got += len(frames); bytes > 1<<20 {
			t.Errorf("a batch of %d bytes", bytes)
		}
		if got == count && batches == 0 {
			t.Error("all of them in one batch")
		}
	}
}
