package afpacket_test

import (
	"bytes"
	"errors"
	"net"
	"testing"
	"time"

	"tcpcopy/internal/capture"
	"tcpcopy/internal/capture/afpacket"
	"tcpcopy/internal/testnet"
)

const deadline = 5 * time.Second

func open(t testing.TB, cfg afpacket.Config) *afpacket.Source {
	t.Helper()
	s, err := afpacket.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); s.Next(0) })
	return s
}

// until reads frames until done says so, and fails when that takes too long.
func until(t testing.TB, s capture.Source, what string, done func(f *capture.Frame) bool) {
	t.Helper()
	for end := time.Now().Add(deadline); time.Now().Before(end); {
		frames, err := s.Next(100 * time.Millisecond)
		if err != nil {
			t.Fatalf("waiting for %s: %v", what, err)
		}
		for i := range frames {
			if done(&frames[i]) {
				return
			}
		}
	}
	t.Fatalf("no %s within %v; %+v", what, deadline, s.Stats())
}

func udp(t testing.TB, address string) net.PacketConn {
	t.Helper()
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t testing.TB, c net.PacketConn, to net.Addr, payload []byte) {
	t.Helper()
	if _, err := c.WriteTo(payload, to); err != nil {
		t.Fatal(err)
	}
}

func TestLoopbackIsSeenTwice(t *testing.T) {
	for _, tt := range []struct{ name, address string }{{"ipv4", "127.0.0.1:0"}, {"ipv6", "[::1]:0"}} {
		t.Run(tt.name, func(t *testing.T) {
			testnet.Enter(t)
			s := open(t, afpacket.Config{})
			a, b := udp(t, tt.address), udp(t, tt.address)
			payload := []byte("seen twice")
			send(t, a, b.LocalAddr(), payload)
			var out, in int
			until(t, s, "both sightings", func(f *capture.Frame) bool {
				if !bytes.HasSuffix(f.Data, payload) {
					return false
				}
				if !f.Loopback || f.Wire != len(f.Data) || f.Outgoing != (f.PktType == capture.Outgoing) {
					t.Errorf("frame %+v", f)
				}
				if f.Outgoing {
					out++
				} else {
					in++
				}
				return out == 1 && in == 1
			})
		})
	}
}

func TestCloseInterruptsNext(t *testing.T) {
	testnet.Enter(t)
	s := open(t, afpacket.Config{})
	done := make(chan error)
	go func() {
		_, err := s.Next(-1)
		done <- err
	}()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if !errors.Is(err, capture.ErrClosed) {
			t.Fatalf("Next after Close: %v", err)
		}
	case <-time.After(deadline):
		t.Fatal("Next did not return")
	}
}
