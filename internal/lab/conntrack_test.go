package lab

import (
	"errors"
	"os"
	"strings"
	"testing"

	"tcpcopy/internal/lab/netlab"
)

// TestTrack checks that as many connections are tracked as were asked for, and that a table which
// has them already is an error.
func TestTrack(t *testing.T) {
	n, err := netlab.New(netlab.Config{})
	if denied := (*netlab.PermissionError)(nil); errors.As(err, &denied) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	message, err := trackMessage()
	if err != nil {
		t.Fatal(err)
	}
	const entries = 20000 // of two addresses
	var count string
	err = n.Target.Try(func() error {
		if err := track(message, entries); err != nil {
			return err
		}
		b, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
		count = strings.TrimSpace(string(b))
		return err
	})
	if err != nil || count != "20000" {
		t.Errorf("%s tracked (%v), want %d", count, err, entries)
	}
	if err := n.Target.Try(func() error { return track(message, 1) }); err == nil {
		t.Error("an entry that is there was added again")
	}
}
