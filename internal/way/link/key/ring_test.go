package key

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// folder is a directory of key files.
type folder struct {
	t   *testing.T
	dir string
}

func (f *folder) write(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *folder) remove(name string) {
	f.t.Helper()
	if err := os.Remove(filepath.Join(f.dir, name)); err != nil {
		f.t.Fatal(err)
	}
}

func (f *folder) load() *Ring {
	f.t.Helper()
	r, _, err := LoadRing(f.dir, true)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// name returns whose key a client proves, or the error's text.
func name(t *testing.T, r *Ring, client *tls.Config) string {
	t.Helper()
	server := r.ServerTLS()
	a, b := connected(t)
	defer b.Close()
	type result struct {
		name string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		s := tls.Server(a, server)
		res := result{err: s.Handshake()}
		if h := r.Holder(s.ConnectionState()); res.err == nil && h != nil {
			res.name = h.Name
		}
		a.Close()
		done <- res
	}()
	c := tls.Client(b, client)
	err := c.Handshake()
	if err != nil {
		b.Close()
	}
	res := <-done
	switch {
	case err != nil:
		return err.Error()
	case res.err != nil:
		return res.err.Error()
	}
	return res.name
}

// TestRing connects with keys of a ring and others, and after keys have come and gone.
func TestRing(t *testing.T) {
	f := &folder{t, t.TempDir()}
	alice, bob, carol := Generate(), Generate(), Generate()
	f.write("alice", alice+"\n")
	f.write("bob.key", "# of the second team\nports 80,443\nmay open\n"+bob+"\n")
	f.write(".swp", "garbage")
	r := f.load()
	if got := r.Names(); !slices.Equal(got, []string{"alice", "bob"}) {
		t.Fatalf("names %q", got)
	}
	client := func(text string) *tls.Config { return ClientTLS(mustParse(t, text)) }
	old := client(alice) // of a version that names no key
	old.ServerName = ""
	agent := AgentClientTLS(mustParse(t, alice))
	check := func(what string, c *tls.Config, want string) {
		t.Helper()
		if got := name(t, r, c); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	wrong := ErrWrong.Error()
	check("the first key", client(alice), "alice")
	check("the second key", client(bob), "bob")
	check("a key that is not there", client(carol), wrong)
	check("one that names no key", old, wrong)
	if got := name(t, r, agent); !strings.Contains(got, wrong) {
		t.Errorf("an agent: %q", got)
	}

	first := r.byID[mustParse(t, alice).id()]
	f.remove("bob.key")
	f.write("alice", alice+"\nports 8080\n")
	f.write("carol", carol)
	changes, _, err := r.Reload()
	want := []string{"added carol", "changed alice", "removed bob"}
	if err != nil || !slices.Equal(changes, want) {
		t.Fatalf("reloaded %q, %v, want %q", changes, err, want)
	}
	if p := first.Rights().Ports; p == nil || p.Has(80) || !p.Has(8080) {
		t.Errorf("the first key's ports are %v", p)
	}
	check("a key that was added", client(carol), "carol")
	check("a key that was removed", client(bob), wrong)

	f.write("carol", "nonsense")
	if _, _, err := r.Reload(); err == nil {
		t.Error("a file that cannot be read is loaded")
	}
	check("after a reload that failed", client(carol), "carol")
	f.remove("carol")
	if _, _, err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	check("one that names no key, where there is one only", old, "alice")
	if first.Valid().Err() != nil {
		t.Error("the first key is not valid any more")
	}
	f.write("alice", carol)
	if _, _, err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if first.Valid().Err() == nil {
		t.Error("a key that was replaced is still valid")
	}
	check("the key that replaces it", client(carol), "alice")
}

func TestRingRefuses(t *testing.T) {
	k, other := Generate(), Generate()
	for _, tc := range []struct {
		name, file, want string
	}{
		{"no key", "ports 80\n", "no key in it"},
		{"two keys", k + "\n" + other, "line 2: a second key"},
		{"a broken key", "tcpcopy-key-1:AAAA", "line 1: key: parse: 3 bytes"},
		{"no port", k + "\nports 0", `line 2: ports "0": wanted ports`},
		{"loopback", k + "\nports loopback:80", "loopback:PORT is for the intercept's own --allow"},
		{"no network", k + "\nclients here", `line 2: clients "here": wanted networks`},
		{"no way", k + "\nmay fly", "line 2: wanted a key"},
		{"twice", k + "\nmay open\nmay read", "line 3: wanted a key"},
		{"most of a secret", strings.TrimPrefix(k, prefix), "line 1: wanted a key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := &folder{t, t.TempDir()}
			f.write("a", tc.file)
			_, _, err := LoadRing(f.dir, true)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q in it", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), k[len(prefix):]) {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
	f := &folder{t, t.TempDir()}
	if _, _, err := LoadRing(f.dir, true); err == nil || !strings.Contains(err.Error(), "no key") {
		t.Errorf("an empty directory: %v", err)
	}
	f.write("a", k)
	f.write("b", k)
	if _, _, err := LoadRing(f.dir, true); err == nil || !strings.Contains(err.Error(),
		`has the key of "a"`) {
		t.Errorf("one key twice: %v", err)
	}
	f.write("b", other+"\nports 80")
	if _, _, err := LoadRing(f.dir, false); err == nil || !strings.Contains(err.Error(),
		"bounds ports or clients") {
		t.Errorf("bounds where none can be kept: %v", err)
	}
	if _, _, err := LoadRing(f.dir+"/none", true); err == nil {
		t.Error("a directory that is not there is loaded")
	}
}

func TestParsePorts(t *testing.T) {
	for in, want := range map[string]string{
		"80":                    "port 80",
		"80,443,80":             "ports 80, 443",
		"loopback:6379":         "port 6379 (also on loopback alone)",
		"80,loopback:80":        "port 80 (also on loopback alone)",
		"any":                   "every port",
		"any, 80,loopback:6379": "every port, and 6379 (also on loopback alone)",
		"":                      "", "0": "", "65536": "", "http": "", "loopback:": "", "80,": "",
		"loopback:any": "", "-1": "", "+80": "",
	} {
		p, err := ParsePorts(in)
		if (err != nil) != (want == "") || err == nil && p.String() != want {
			t.Errorf("%q: %q, %v, want %q", in, p.String(), err, want)
		}
	}
	p, _ := ParsePorts("80,loopback:6379")
	if !p.Has(80) || !p.Has(6379) || p.Has(443) || p.HasLoopback(80) || !p.HasLoopback(6379) {
		t.Errorf("%+v", p)
	}
	if !new(Ports).Empty() || new(Ports).Has(80) {
		t.Error("no ports are some")
	}
}
