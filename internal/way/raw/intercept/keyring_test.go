package intercept_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/raw/intercept"
)

// TestKeyRing: a copier is served for what its key is for, under the key's name, until the key is
// taken away.
func TestKeyRing(t *testing.T) {
	for _, onTarget := range []bool{false, true} {
		dir := t.TempDir()
		write := func(name, bounds string) key.Key {
			text := key.Generate()
			err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"+bounds), 0o600)
			if err != nil {
				t.Fatal(err)
			}
			k, err := key.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			return k
		}
		both, open, read := write("both", ""), write("open", "may open"), write("read", "may read")
		ring, _, err := key.LoadRing(dir, onTarget)
		if err != nil {
			t.Fatal(err)
		}
		d := start(t, func(c *intercept.Config) {
			c.Keys, c.TLS = ring, ring.ServerTLS()
			if onTarget {
				c.Sources, c.Streams = nil, noStreams
			}
		})
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		good, bad := read, open
		if onTarget {
			good, bad = open, read
		}
		for _, k := range []key.Key{both, good} {
			if err := dial(t, []string{d.addr}, usingKey(k)).WaitReady(ctx); err != nil {
				t.Errorf("on target %v: %v", onTarget, err)
			}
		}
		err = dial(t, []string{d.addr}, usingKey(bad)).WaitReady(ctx)
		var refused *link.Refused
		if !errors.As(err, &refused) || !strings.Contains(refused.Text, "may not") {
			t.Errorf("on target %v: a key for the other: %v", onTarget, err)
		}
		names := map[string]bool{}
		for _, c := range d.Snapshot().Copiers {
			names[c.Key] = true
		}
		if len(names) != 2 || !names["both"] {
			t.Errorf("on target %v: copiers with the keys %v", onTarget, names)
		}
		if err := os.Remove(filepath.Join(dir, "both")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ring.Reload(); err != nil {
			t.Fatal(err)
		}
		wait(t, "the end of its connection", func() bool {
			for _, c := range d.Snapshot().Copiers {
				if c.Key == "both" && c.Conns > 0 {
					return false
				}
			}
			return true
		})
	}
}
