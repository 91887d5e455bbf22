package localroute

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestPrune: journals of namespaces that are gone go at the next start; those of others stay, and
// so does what is none of ours.
func TestPrune(t *testing.T) {
	host(t)
	if _, err := liveNamespaces(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	own, err := namespaceInode()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]bool{ // whether it stays
		fmt.Sprintf("target-%d", own+1<<32): false, fmt.Sprintf("target-%d.lock", own+1<<32): false,
		fmt.Sprintf("target-%d.new", own+1<<33): false,
		"target-":                               true, "target-x": true, "other-7": true,
	}
	// A namespace that nobody stands in, but somebody holds open.
	held, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	files[fmt.Sprintf("target-%d", own)] = true
	host(t)
	for name := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h, err := Stand(Config{Ports: []uint16{8080}, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Leave(); err != nil {
		t.Fatal(err)
	}
	for name, stays := range files {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != stays {
			t.Errorf("%s: stays: %v, want %v", name, err == nil, stays)
		}
	}
}
