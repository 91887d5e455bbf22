package recording

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"tcpcopy/internal/source/capfile"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)

// read returns the packets of a file and the counts that it holds.
func read(t *testing.T, path string) (list []string, c capfile.Counts, err error) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var in io.Reader = f
	switch filepath.Ext(path) {
	case ".gz":
		if in, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	case ".zst":
		z, err := zstd.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		in = z
	}
	r, err := capfile.NewReader(in)
	if err != nil {
		return nil, c, err
	}
	var p capfile.Packet
	for {
		if err = r.Next(&p); err != nil {
			break
		}
		list = append(list, string(p.Data))
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return list, r.Counts(), err
}

func create(t *testing.T, cfg Config) *Writer {
	t.Helper()
	w, err := New(cfg, noon)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestFormats(t *testing.T) {
	for _, ending := range []string{".pcap", ".pcapng", ".pcap.gz", ".pcapng.gz", ".pcapng.zst"} {
		t.Run(ending, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "peak"+ending)
			w := create(t, Config{Path: path, Snap: 4})
			for i, text := range []string{"one", "two", "three"} {
				if err := w.Write(noon.Add(time.Duration(i)), []byte(text), len(text),
					capfile.Counts{}); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(noon, capfile.Counts{Received: 8, Dropped: 5}); err != nil {
				t.Fatal(err)
			}
			list, counts, err := read(t, path)
			want := capfile.Counts{Received: 8, Dropped: 5}
			if strings.HasPrefix(ending, ".pcap.") || ending == ".pcap" {
				want = capfile.Counts{}
			}
			if d := cmp.Diff([]string{"one", "two", "thre"}, list); d != "" || err != nil ||
				counts != want {
				t.Errorf("%v, %+v\n%s", err, counts, d)
			}
			if s := w.State(); s.Packets != 3 || s.Files != 1 || s.Name != path {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestRotation checks that every file ends with its own counts, and that old files are removed.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	w := create(t, Config{Path: filepath.Join(dir, "day.pcapng"), RotateEvery: time.Minute,
		Keep: 2})
	for i, text := range []string{"a", "b", "c", "d"} {
		seen := capfile.Counts{Received: uint64(10 * i), Dropped: uint64(i)}
		if err := w.Write(noon.Add(time.Duration(i)*40*time.Second), []byte(text), 1,
			seen); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(noon.Add(3*time.Minute), capfile.Counts{Received: 100,
		Dropped: 9}); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(dir, "*"))
	want := []string{filepath.Join(dir, "day-20260301-120120.pcapng")}
	if d := cmp.Diff(append([]string{filepath.Join(dir, "day-20260301-120000.pcapng")}, want...),
		names); d != "" {
		t.Fatal(d)
	}
	for i, want := range []struct {
		list   []string
		counts capfile.Counts
	}{
		{[]string{"a", "b"}, capfile.Counts{Received: 20, Dropped: 2}},
		{[]string{"c", "d"}, capfile.Counts{Received: 80, Dropped: 7}},
	} {
		list, counts, err := read(t, names[i])
		if d := cmp.Diff(want.list, list); d != "" || counts != want.counts || err != nil {
			t.Errorf("%s: %v, %+v\n%s", names[i], err, counts, d)
		}
	}
}

func TestRotationBySize(t *testing.T) {
	dir := t.TempDir()
	w := create(t, Config{Path: filepath.Join(dir, "day.pcap"), RotateBytes: 1000, Keep: 3})
	for range 50 { // in one second: the names must differ
		if err := w.Write(noon, make([]byte, 84), 84, capfile.Counts{}); err != nil {
			t.Fatal(err)
		}
	}
	w.Close(noon, capfile.Counts{})
	names, _ := filepath.Glob(filepath.Join(dir, "*"))
	if s := w.State(); len(names) != 3 || s.Files != 5 || s.Removed != 2 {
		t.Errorf("%v, %+v, wanted 3 files of 5", names, s)
	}
}

// TestFullDisk checks that a full disk is one error, and that the file is readable up to the last
// packet that reached the disk.
func TestFullDisk(t *testing.T) {
	for _, ending := range []string{".pcap", ".pcapng"} {
		t.Run(ending, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "peak"+ending)
			limit := limitFiles(t, 300_000)
			w := create(t, Config{Path: path})
			var err error
			n := 0
			for ; err == nil && n < 1000; n++ {
				err = w.Write(noon, make([]byte, 1000), 1000, capfile.Counts{})
			}
			limit()
			if !errors.Is(err, syscall.EFBIG) || !strings.Contains(err.Error(), path) {
				t.Fatalf("got %v, wanted the kernel's word and the file's name", err)
			}
			if again := w.Close(noon, capfile.Counts{}); !errors.Is(again, err) {
				t.Errorf("got %v, wanted the same error again", again)
			}
			list, _, err := read(t, path)
			if err != nil || len(list) < 200 || len(list) > 300 {
				t.Errorf("%d packets of %d, %v, wanted nearly 300 and no error", len(list), n, err)
			}
		})
	}
	if _, err := New(Config{Path: "/dev/full/peak.pcap"}, noon); err == nil {
		t.Error("a file where none can be")
	}
}

// limitFiles simulates a full disk: the files of this process cannot grow beyond size, until the
// returned function is called.
func limitFiles(t *testing.T, size uint64) func() {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE,
		&syscall.Rlimit{Cur: size, Max: old.Max}); err != nil {
		t.Skip(err)
	}
	return func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKindOf(t *testing.T) {
	for name, want := range map[string]bool{
		"-": true, "a.pcap": true, "a.pcapng": true, "x/a.pcapng.gz": true, "a.pcap.zst": true,
		"a": false, "a.gz": false, ".pcap": false, "": false, "a.pcap.xz": false,
	} {
		if _, ok := KindOf(name); ok != want {
			t.Errorf("%q: %v", name, ok)
		}
	}
}

// TestFilesArePrivate checks that only their owner can read capture files: new ones, one of
// several, and one that replaces an older one.
func TestFilesArePrivate(t *testing.T) {
	old := filepath.Join(t.TempDir(), "old.pcap")
	if err := os.WriteFile(old, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]Config{
		"new":      {Path: filepath.Join(t.TempDir(), "new.pcap")},
		"existing": {Path: old},
		"rotated":  {Path: filepath.Join(t.TempDir(), "some.pcap"), RotateBytes: 1 << 20},
	} {
		w := create(t, cfg)
		path := w.State().Name
		if err := w.Close(noon, capfile.Counts{}); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, mode %v, wanted 0600", name, err, st.Mode())
		}
	}
}
