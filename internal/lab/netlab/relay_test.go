package netlab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"
)

// pathLab makes a net with a path to the target, or skips where there is no TUN for us.
func pathLab(t *testing.T, config Config) *Net {
	t.Helper()
	if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); errors.Is(err, os.ErrPermission) ||
		errors.Is(err, os.ErrNotExist) {
		t.Skip(err)
	} else if err == nil {
		f.Close()
	}
	return lab(t, config)
}

func TestPathDelays(t *testing.T) {
	const delay = 20 * time.Millisecond
	n := pathLab(t, Config{TargetPath: Path{Delay: delay}})
	for _, addr := range []netip.Addr{TargetAddr4, TargetAddr6} {
		// The first exchange finds the neighbours.
		if err := exchange(n.Production, n.Target, addr); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := exchange(n.Production, n.Target, addr); err != nil {
			t.Fatal(err)
		}
		// A handshake and an echo are two round trips. How much longer they take is the machine's
		// affair.
		if d := time.Since(begin); d < 4*delay {
			t.Errorf("%s: two round trips took %v, wanted no less than %v", addr, d, 4*delay)
		}
	}
	if err := exchange(n.Production, n.Assistant, AssistantAddr4); err != nil {
		t.Error(err)
	}
}

func TestPathLoses(t *testing.T) {
	data := make([]byte, 1_000_000)
	n := pathLab(t, Config{TargetPath: Path{Delay: time.Millisecond, Loss: 3, Seed: 7}})
	if err := exchangeFrom(n.Production, netip.Addr{}, n.Target, TargetAddr4, data); err != nil {
		t.Fatal(err)
	}
	lost, err := n.Lost()
	if err != nil {
		t.Fatal(err)
	}
	// At least 1,400 data segments there and back, and their ACKs.
	if lost < 15 || lost > 300 {
		t.Errorf("lost %d packets at 3 %%", lost)
	}
}

func TestPathCarries(t *testing.T) {
	for _, mtu := range []int{1280, 1500, 9000} {
		t.Run(fmt.Sprint(mtu), func(t *testing.T) {
			n := pathLab(t, Config{MTU: mtu, NoOffloads: mtu == 1280,
				TargetPath: Path{Delay: 100 * time.Microsecond}})
			if err := exchangeFrom(n.Production, netip.Addr{}, n.Target, TargetAddr4,
				make([]byte, 2_000_000)); err != nil {
				t.Fatal(err)
			}
			if lost, err := n.Lost(); err != nil || lost != 0 {
				t.Errorf("lost %d packets (%v) without any loss", lost, err)
			}
		})
	}
}

func TestPathRefused(t *testing.T) {
	for _, p := range []Path{{Delay: -1}, {Delay: time.Hour}, {Loss: -1}, {Loss: 101}} {
		if _, err := New(Config{TargetPath: p}); err == nil {
			t.Errorf("%+v was not refused", p)
		}
	}
}
