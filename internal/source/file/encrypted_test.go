package file

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/source/capfile"
)

// encrypted returns a file that is encrypted to a new key, and the key.
func encrypted(t testing.TB, clear []byte) ([]byte, age.Identity) {
	t.Helper()
	k, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := age.Encrypt(&b, k.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(clear); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), k
}

// TestEncrypted plays files that are encrypted, beside one that is not.
func TestEncrypted(t *testing.T) {
	a, ka := encrypted(t, zstded(write(t, capfile.PCAPNG, entry{1, "a"}, entry{3, "c"})))
	b, kb := encrypted(t, write(t, capfile.PCAP, entry{2, "b"}))
	plain := write(t, capfile.PCAPNG, entry{4, "d"})
	p := open(t, Config{Identities: []age.Identity{ka, kb}}, a, b, plain)
	if got := p.play(); !slices.Equal(got, []string{"a@0", "b@0", "c@0", "d@0"}) {
		t.Errorf("played %q", got)
	}
	for what, identities := range map[string][]age.Identity{"wanted --identity": nil,
		"identity did not match": {kb}} {
		_, err := Open(Config{Paths: save(t, a), Identities: identities,
			Now: func() mono.Time { return 0 }})
		if !errors.Is(err, ErrEncrypted) || !strings.Contains(err.Error(), what) {
			t.Errorf("error %v, want %q in it", err, what)
		}
	}
}

// TestEncryptedIsCut plays what a writer that was killed has left: all whole chunks.
func TestEncryptedIsCut(t *testing.T) {
	var list []entry
	for i := range 200 {
		list = append(list, entry{int64(i), strings.Repeat("x", 1000)})
	}
	all, k := encrypted(t, write(t, capfile.PCAPNG, list...))
	const chunk = 64<<10 + 16
	head := bytes.Index(all, []byte("\n--- ")) + 5
	head += bytes.IndexByte(all[head:], '\n') + 1 + 16 // the nonce
	p := open(t, Config{Identities: []age.Identity{k}}, all[:head+2*chunk])
	if got := p.play(); len(got) < 100 || len(got) > 140 {
		t.Errorf("%d packets played", len(got))
	}
	if st := p.State(); st.Truncated != 1 || len(st.Corrupt) != 0 {
		t.Errorf("truncated %d, corrupt %q", st.Truncated, st.Corrupt)
	}
}
