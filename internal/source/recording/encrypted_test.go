package recording

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"tcpcopy/internal/source/capfile"
)

// TestEncrypted writes files to two keys: each opens all of them, another opens none, and nothing
// of the packets can be read without.
func TestEncrypted(t *testing.T) {
	var keys []*age.X25519Identity
	for range 3 {
		k, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	for _, ending := range []string{".pcapng.age", ".pcap.gz.age", ".pcapng.zst.age"} {
		t.Run(ending, func(t *testing.T) {
			dir := t.TempDir()
			w := create(t, Config{Path: filepath.Join(dir, "out"+ending), RotateEvery: time.Minute,
				Recipients: []age.Recipient{keys[0].Recipient(), keys[1].Recipient()}})
			var want []string
			for i := range 4 {
				text := fmt.Sprintf("private %d", i)
				want = append(want, text)
				err := w.Write(noon.Add(time.Duration(i)*40*time.Second), []byte(text), len(text),
					capfile.Counts{})
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(noon.Add(time.Hour), capfile.Counts{}); err != nil {
				t.Fatal(err)
			}
			names, err := filepath.Glob(filepath.Join(dir, "*"+ending))
			if err != nil || len(names) != 2 {
				t.Fatalf("files %q, %v", names, err)
			}
			for _, k := range keys[:2] {
				var all []string
				for _, name := range names {
					all = append(all, decrypted(t, name, k)...)
				}
				if d := cmp.Diff(want, all); d != "" {
					t.Errorf("(-want +got)\n%s", d)
				}
			}
			b, err := os.ReadFile(names[0])
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(b, []byte("private")) {
				t.Error("the packets can be read as they are")
			}
			if _, err := age.Decrypt(bytes.NewReader(b), keys[2]); err == nil {
				t.Error("another key opens it")
			}
		})
	}
}

// decrypted returns the packets of a file.
func decrypted(t *testing.T, name string, k age.Identity) []string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in, err := age.Decrypt(f, k)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	clear := name[:len(name)-len(encryptedEnding)]
	if err := os.WriteFile(clear, b, 0o600); err != nil {
		t.Fatal(err)
	}
	list, _, err := read(t, clear)
	if err != nil {
		t.Fatal(err)
	}
	return list
}
