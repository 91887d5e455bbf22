package netlab

import (
	"net/netip"
	"testing"
)

// TestContain checks that a host reaches its container and the other way round, in both families,
// that nobody else does, and that the container goes with the net.
func TestContain(t *testing.T) {
	n := lab(t, Config{})
	inside, err := n.Contain(n.Target)
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []netip.Addr{ContainerAddr4, ContainerAddr6} {
		if err := exchange(n.Target, inside, addr); err != nil {
			t.Errorf("target to container: %v", err)
		}
	}
	for _, addr := range []netip.Addr{TargetAddr4, TargetAddr6} {
		if err := exchange(inside, n.Target, addr); err != nil {
			t.Errorf("container to target: %v", err)
		}
	}
	if exchange(n.Production, inside, ContainerAddr4) == nil {
		t.Error("production reaches the target's container")
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := inside.Do(func() {}); err == nil {
		t.Error("the container is there after its net")
	}
}
