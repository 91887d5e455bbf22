package key

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	nameLabel = "tcpcopy key 1 name"
	// maxHolders bounds the files of a ring.
	maxHolders = 1024
)

// id returns the public name of a key, which a copier sends before the handshake's proof, so that
// an intercept with several keys knows which one to prove. It tells nothing of the secret.
func (k Key) id() string {
	b, err := hkdf.Key(sha256.New, k.secret[:], nil, nameLabel, 16)
	if err != nil { // only for lengths that HKDF cannot yield
		panic(fmt.Sprintf("key: derive %q: %v", nameLabel, err))
	}
	return "key-" + hex.EncodeToString(b)
}

// Holder is who has one of a ring's keys.
type Holder struct {
	Name   string // of the file
	path   string
	key    Key
	proof  ed25519.PublicKey // of a copier with the key
	rights atomic.Pointer[Rights]
	ctx    context.Context
	remove context.CancelFunc
}

// Rights returns what the holder may do now: a reload may change it.
func (h *Holder) Rights() *Rights { return h.rights.Load() }

// Valid is done when the key has been removed from the ring.
func (h *Holder) Valid() context.Context { return h.ctx }

// Ring holds several keys, one in each file of a directory, with what their holders may do. Its
// methods are safe from any goroutine.
type Ring struct {
	dir   string
	bound bool
	decoy Key // is proved to those who name none of the keys

	mu   sync.Mutex
	byID map[string]*Holder
	tls  map[string]*tls.Config // of an intercept, by the same names
}

// LoadRing reads the files of a directory. Names that begin with a dot are left out. bound reports
// whether a file may bound its key to ports and clients. The warnings are for the user.
func LoadRing(dir string, bound bool) (*Ring, []string, error) {
	r := &Ring{dir: dir, bound: bound}
	var err error
	if r.decoy, err = Parse(Generate()); err != nil {
		return nil, nil, err
	}
	_, warnings, err := r.Reload()
	if err != nil {
		return nil, nil, err
	}
	return r, warnings, nil
}

// Reload reads the files again, and returns the names of the holders that were added, changed and
// removed, each with that word. The connections of a holder that was removed, or that may do
// another thing now, end. After an error nothing is changed.
func (r *Ring) Reload() (changes, warnings []string, err error) {
	found, warnings, err := r.read()
	if err != nil {
		return nil, nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	byID, configs := map[string]*Holder{}, map[string]*tls.Config{}
	for id, h := range found {
		old := r.byID[id]
		if old != nil && old.Name == h.Name && old.mayAs(h) {
			if !equalRights(old.Rights(), h.Rights()) {
				old.rights.Store(h.Rights())
				changes = append(changes, "changed "+h.Name)
			}
			byID[id], configs[id] = old, r.tls[id]
			continue
		}
		h.ctx, h.remove = context.WithCancel(context.Background())
		byID[id], configs[id] = h, ServerTLS(h.key)
		changes = append(changes, "added "+h.Name)
	}
	for id, h := range r.byID {
		if byID[id] != h {
			h.remove()
			changes = append(changes, "removed "+h.Name)
		}
	}
	r.byID, r.tls = byID, configs
	slices.Sort(changes)
	return changes, warnings, nil
}

// read reads the files, by the keys' public names.
func (r *Ring) read() (found map[string]*Holder, warnings []string, err error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("key: read: %w", err)
	}
	found = map[string]*Holder{}
	for _, e := range entries {
		path := filepath.Join(r.dir, e.Name())
		if info, err := os.Stat(path); strings.HasPrefix(e.Name(), ".") ||
			err == nil && info.IsDir() {
			continue
		}
		h, warning, err := readHolder(path)
		if err != nil {
			return nil, nil, err
		}
		if g := h.Rights(); !r.bound && (g.Ports != nil || g.Clients != nil) {
			return nil, nil, fmt.Errorf("key file %q: %w", path, errors.New("bounds ports or "+
				"clients: an intercept can do so on the target only (--on-target)"))
		}
		if warning != "" {
			warnings = append(warnings, warning)
		}
		if other := found[h.key.id()]; other != nil {
			return nil, nil, fmt.Errorf("key file %q: %w", path, fmt.Errorf(
				"has the key of %q: wanted a key of its own for each", other.Name))
		}
		found[h.key.id()] = h
		if len(found) > maxHolders {
			return nil, nil, fmt.Errorf("key: read %q: more than %d keys", r.dir, maxHolders)
		}
	}
	if len(found) == 0 {
		return nil, nil, fmt.Errorf("key: read %q: %w", r.dir, errors.New("no key in it: "+
			"wanted files made by tcpcopy keygen"))
	}
	return found, warnings, nil
}

// mayAs reports whether two holders may do the same, within whatever bounds.
func (h *Holder) mayAs(other *Holder) bool {
	a, b := h.Rights(), other.Rights()
	return a.Open == b.Open && a.Read == b.Read
}

// readHolder reads one file.
func readHolder(path string) (*Holder, string, error) {
	text, warning, err := readFile(path)
	if err != nil {
		return nil, "", err
	}
	h := &Holder{path: path, Name: strings.TrimSuffix(filepath.Base(path), ".key")}
	k, rights, err := parseHolder(text)
	if err != nil {
		return nil, "", fmt.Errorf("key file %q: %w", path, err)
	}
	h.key = k
	h.proof = k.private(copierLabel).Public().(ed25519.PublicKey)
	h.rights.Store(&rights)
	return h, warning, nil
}

func equalRights(a, b *Rights) bool {
	samePorts := a.Ports == b.Ports
	if a.Ports != nil && b.Ports != nil {
		samePorts = a.Ports.Any == b.Ports.Any && slices.Equal(a.Ports.List, b.Ports.List) &&
			slices.Equal(a.Ports.Loopback, b.Ports.Loopback)
	}
	return samePorts && slices.Equal(a.Clients, b.Clients) && a.Open == b.Open && a.Read == b.Read
}

// Files returns the paths that Reload reads: the directory, and the files in it now.
func (r *Ring) Files() []string {
	all := []string{r.dir}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.byID {
		all = append(all, h.path)
	}
	slices.Sort(all)
	return all
}

// Names returns the holders' names in order.
func (r *Ring) Names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, h := range r.byID {
		all = append(all, h.Name)
	}
	slices.Sort(all)
	return all
}

// ServerTLS returns the configuration of an intercept that accepts copiers with any of the keys.
// A copier of before there were rings names none: it is accepted if there is one key only.
func (r *Ring) ServerTLS() *tls.Config {
	base := ServerTLS(r.decoy)
	decoy := base.Clone()
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if c := r.tls[hello.ServerName]; c != nil {
			return c, nil
		}
		if hello.ServerName == "" && len(r.tls) == 1 {
			for _, c := range r.tls {
				return c, nil
			}
		}
		return decoy, nil
	}
	return base
}

// Holder returns who has proved the key of a connection; nil if its key has been removed since.
func (r *Ring) Holder(s tls.ConnectionState) *Holder {
	if len(s.PeerCertificates) == 0 {
		return nil
	}
	got, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.byID {
		if got.Equal(h.proof) {
			return h
		}
	}
	return nil
}

// readFile reads a key's file. warning is for the user, if others may read the file, else empty.
func readFile(file string) (text, warning string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", "", fmt.Errorf("key: read: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", "", fmt.Errorf("key: read: %w", err)
	}
	buf, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", "", fmt.Errorf("key: read: %w", err)
	}
	if len(buf) > maxFile {
		return "", "", fmt.Errorf("key: read %q: more than %d bytes: "+
			"wanted one line as printed by tcpcopy keygen", file, maxFile)
	}
	// The mode of a pipe means nothing.
	if mode := info.Mode(); mode.IsRegular() && mode.Perm()&0o077 != 0 {
		warning = fmt.Sprintf("key file %q can be read by others (mode %04o): chmod 600 %s", file,
			mode.Perm(), file)
	}
	return string(buf), warning, nil
}
