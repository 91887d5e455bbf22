package afpacket_test

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"tcpcopy/internal/source/afpacket"
	"tcpcopy/internal/test/testnet"
)

// uploads sends count uploads of 100 KB over 20 connections from ns to this namespace, at some
// Mb/s, in frames of up to 64 KB.
func uploads(t testing.TB, ns *testnet.NS, count, mbit int) {
	t.Helper()
	l, err := net.Listen("tcp", "10.7.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(io.Discard, c)
				c.Close()
			}()
		}
	}()
	const conns, size = 20, 100_000
	every := time.Duration(size*8*1000/mbit) * time.Nanosecond
	start := time.Now()
	var wg sync.WaitGroup
	for i := range conns {
		var c net.Conn
		ns.Do(func() { c, err = net.Dial("tcp", l.Addr().String()) })
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer c.Close()
			payload := make([]byte, size)
			for k := i; k < count; k += conns {
				time.Sleep(time.Until(start.Add(time.Duration(k) * every)))
				c.Write(payload)
			}
			c.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, c) // until the server has all of it
		})
	}
	wg.Wait()
}

// TestHoldsABurst: while the reader is away, a burst of uploads in large frames is in the ring: in
// blocks of the default size as far as they go, in slots as far as the queue does.
func TestHoldsABurst(t *testing.T) {
	for _, tt := range []struct {
		name  string
		cfg   afpacket.Config
		count int
	}{
		{"blocks", afpacket.Config{}, 100},
		{"slots", afpacket.Config{Immediate: true, Queue: 32 << 20}, 250},
		{"small slots", afpacket.Config{Immediate: true, Slot: 1024, Queue: 32 << 20}, 250},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ns := two(t)
			tt.cfg.Interfaces, tt.cfg.IgnoreOutgoing = []string{"a"}, true
			for try := range 5 {
				s := open(t, tt.cfg)
				start := time.Now()
				uploads(t, ns, tt.count, 1000)
				took, st, load := time.Since(start), s.Stats(), s.Load()
				payload := 0
				for {
					frames, err := s.Next(20 * time.Millisecond)
					if err != nil {
						t.Fatal(err)
					}
					if len(frames) == 0 {
						break
					}
					for i := range frames {
						payload += len(frames[i].Data)
					}
				}
				s.Close()
				s.Next(0)
				// On a busy machine the blocks' time may have been over.
				if took > 250*time.Millisecond {
					t.Logf("try %d: %v", try, took)
					continue
				}
				if st.Dropped > 0 || payload < tt.count*100_000 {
					t.Errorf("%d bytes of %d uploads in %v: %+v, %+v",
						payload, tt.count, took, st, load)
				}
				if load.Cut > 0 || load.Used == 0 || load.Used > load.Size {
					t.Errorf("with all of it in the ring: %+v", load)
				}
				return
			}
			t.Skip("the machine is too busy")
		})
	}
}

// TestLoad: a batch counts until the Next after it.
func TestLoad(t *testing.T) { rings(t, loadOf) }

func loadOf(t *testing.T, immediate bool) {
	testnet.Enter(t)
	s := open(t, afpacket.Config{
		Immediate: immediate, IgnoreOutgoing: true, Filter: udpOnly(t, 1<<16), Memory: 1 << 20,
	})
	size := 8 // blocks
	if immediate {
		size = 512
	}
	if l := s.Load(); l != (afpacket.Load{Size: size}) {
		t.Errorf("at first: %+v", l)
	}
	c := udp(t, "127.0.0.1:0")
	send(t, c, c.LocalAddr(), []byte("one"))
	if frames, err := s.Next(deadline); len(frames) != 1 || err != nil {
		t.Fatal(frames, err)
	}
	if l := s.Load(); l != (afpacket.Load{Used: 1, Size: size}) {
		t.Errorf("with a batch: %+v", l)
	}
	if frames, err := s.Next(0); len(frames) != 0 || err != nil {
		t.Fatal(frames, err)
	}
	if l := s.Load(); l != (afpacket.Load{Size: size}) {
		t.Errorf("after it: %+v", l)
	}
	flood(t, 2000, 1400) // more than fits
	if l := s.Load(); l != (afpacket.Load{Used: size, Size: size}) {
		t.Errorf("when full: %+v", l)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if l := s.Load(); l != (afpacket.Load{}) {
		t.Errorf("after Close: %+v", l)
	}
}

// TestCutFramesAreCounted: where the queue of an Immediate source is full, large packets come cut.
func TestCutFramesAreCounted(t *testing.T) {
	testnet.Enter(t)
	s := open(t, afpacket.Config{
		Immediate: true, IgnoreOutgoing: true, Filter: udpOnly(t, 1<<17), Queue: 100_000,
	})
	const count, size = 20, 50_000
	flood(t, count, size)
	var whole, cut uint64
	for whole+cut < count {
		frames, err := s.Next(deadline)
		if err != nil || len(frames) == 0 {
			t.Fatal(frames, err)
		}
		for i := range frames {
			if f := &frames[i]; f.Wire != size+28 {
				t.Errorf("frame of %d bytes", f.Wire)
			} else if len(f.Data) == f.Wire {
				whole++
			} else {
				cut++
			}
		}
	}
	if l := s.Load(); whole == 0 || cut == 0 || l.Cut != cut {
		t.Errorf("%d whole, %d cut: %+v", whole, cut, l)
	}
}
