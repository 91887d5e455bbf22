// Package recording writes capture files: under a new name when one is large or old enough, compressed if their
// name says so, and readable up to the last packet that went to the disk, whatever ends them.
//
// It knows nothing of packets but their bytes and times, starts no goroutine, and keeps no clock: the engine
// calls it with what it has captured.
package recording

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"tcpcopy/internal/source/capfile"
)

// Stdout is the path that means standard output.
const Stdout = "-"

// Config says what to write.
type Config struct {
	Path string // Stdout, or a name that ends in .pcapng or .pcap, and then perhaps in .gz or .zst
	Snap int    // bytes to keep of a packet; 0: all
	// A file is followed by another when it has so many bytes, or is so old; 0: never. Then the names carry the
	// time at which they begin.
	RotateBytes int64
	RotateEvery time.Duration
	Keep        int // files that stay: older ones of this run are removed; 0: all
}

// Kind is what a file's name says of what is in it.
type Kind struct {
	Stem, Ending string // of the path: "peak" and ".pcapng.gz"
	Format       capfile.Format
	Packing      string // ".gz", ".zst" or nothing
}

// KindOf reads a file's name; false where it ends in nothing that is known. Standard output is pcapng.
func KindOf(path string) (Kind, bool) {
	k := Kind{Stem: path}
	if path == Stdout {
		return k, true
	}
	for _, packing := range []string{".gz", ".zst"} {
		if s, ok := strings.CutSuffix(k.Stem, packing); ok {
			k.Stem, k.Packing = s, packing
			break
		}
	}
	for ending, format := range map[string]capfile.Format{".pcapng": capfile.PCAPNG, ".pcap": capfile.PCAP} {
		if s, ok := strings.CutSuffix(k.Stem, ending); ok && s != "" {
			k.Stem, k.Format, k.Ending = s, format, ending+k.Packing
			return k, true
		}
	}
	return k, false
}

// State is what was written.
type State struct {
	Name    string // of the file that is being written
	Files   int    // begun
	Packets uint64
	Bytes   int64 // of packets and what lies around them, before compression
	Removed int   // files, for Keep
}

// Writer writes the files. Errors stay: after one, every call returns it.
type Writer struct {
	cfg   Config
	kind  Kind
	state State

	file    *os.File
	good    int64 // bytes of the file up to the last whole packet
	pack    io.WriteCloser
	out     *capfile.Writer
	begun   time.Time
	since   capfile.Counts // of the capture when the file began
	names   []string       // files of this run that are there
	err     error
	flushed time.Time
}

// flushEvery is how long a packet may wait in memory.
const flushEvery = time.Second

// New begins to write. Now is the time at which the first file begins.
func New(cfg Config, now time.Time) (*Writer, error) {
	kind, ok := KindOf(cfg.Path)
	if !ok {
		return nil, fmt.Errorf("record to %q: wanted a name that ends in .pcapng or .pcap, and perhaps .gz or .zst", cfg.Path)
	}
	w := &Writer{cfg: cfg, kind: kind}
	if err := w.open(now, capfile.Counts{}); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *Writer) rotates() bool { return w.cfg.RotateBytes > 0 || w.cfg.RotateEvery > 0 }

// open begins a file.
func (w *Writer) open(now time.Time, seen capfile.Counts) error {
	if w.cfg.Path == Stdout {
		w.file = os.Stdout
	} else if err := w.create(now); err != nil {
		return err
	}
	w.good, w.pack, w.begun, w.since, w.flushed = 0, nil, now, seen, now
	w.state.Files++
	w.state.Name = w.file.Name()
	var to io.Writer = (*counted)(w)
	switch w.kind.Packing {
	case ".gz":
		w.pack = gzip.NewWriter(to)
	case ".zst":
		z, err := zstd.NewWriter(to, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			return err
		}
		w.pack = z
	}
	if w.pack != nil {
		to = w.pack
	}
	var err error
	if w.out, err = capfile.NewWriter(to, w.kind.Format, capfile.LinkRaw, w.cfg.Snap); err == nil {
		err = w.out.Flush()
	}
	return w.failed(err)
}

// create makes the file; one of several carries the time in its name, and replaces none.
func (w *Writer) create(now time.Time) (err error) {
	if !w.rotates() {
		w.file, err = os.Create(w.cfg.Path)
		return err
	}
	for n := 1; ; n++ {
		name := w.kind.Stem + now.Format("-20060102-150405")
		if n > 1 {
			name += fmt.Sprintf("-%d", n)
		}
		name += w.kind.Ending
		w.file, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, os.ErrExist) && n < 1000 {
			continue
		}
		if err == nil {
			w.names = append(w.names, name)
			w.trim()
		}
		return err
	}
}

// trim removes what is older than the files to keep.
func (w *Writer) trim() {
	for w.cfg.Keep > 0 && len(w.names) > w.cfg.Keep {
		if os.Remove(w.names[0]) == nil {
			w.state.Removed++
		}
		w.names = w.names[1:]
	}
}

// counted writes to the file, and knows up to where it is good: the capfile.Writer hands on whole packets.
type counted Writer

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.file.Write(b)
	if err != nil {
		c.good += int64(c.kind.Format.Whole(b[:max(n, 0)]))
	} else {
		c.good += int64(n)
	}
	return n, err
}

// Write appends a packet that was captured at that time, of that length on the wire. seen is what has been
// captured and lost so far, for the end of a file.
func (w *Writer) Write(at time.Time, data []byte, wire int, seen capfile.Counts) error {
	if w.err != nil {
		return w.err
	}
	if w.cfg.RotateEvery > 0 && at.Sub(w.begun) >= w.cfg.RotateEvery || w.cfg.RotateBytes > 0 && w.out.Size() >= w.cfg.RotateBytes {
		if err := w.end(at, seen); err != nil {
			return err
		}
		if err := w.open(at, seen); err != nil {
			return w.failed(err)
		}
	}
	if w.cfg.Snap > 0 && len(data) > w.cfg.Snap {
		data = data[:w.cfg.Snap]
	}
	before := w.out.Size()
	if err := w.out.Write(at.UnixNano(), data, wire); err != nil {
		return w.failed(err)
	}
	w.state.Packets++
	w.state.Bytes += w.out.Size() - before
	return nil
}

// Tick is to be called now and then: what waits in memory for a while goes to the disk.
func (w *Writer) Tick(now time.Time) error {
	if w.err != nil || now.Sub(w.flushed) < flushEvery && w.cfg.Path != Stdout {
		return w.err
	}
	w.flushed = now
	err := w.out.Flush()
	if f, ok := w.pack.(interface{ Flush() error }); ok && err == nil {
		err = f.Flush()
	}
	return w.failed(err)
}

// State is what was written so far.
func (w *Writer) State() State { return w.state }

// Close ends the last file. seen is what was captured and lost in all.
func (w *Writer) Close(now time.Time, seen capfile.Counts) error {
	if w.err != nil {
		return w.err
	}
	return w.end(now, seen)
}

// end ends a file.
func (w *Writer) end(now time.Time, seen capfile.Counts) error {
	err := w.out.End(now.UnixNano(), capfile.Counts{Received: seen.Received - w.since.Received, Dropped: seen.Dropped - w.since.Dropped})
	if w.pack != nil && err == nil {
		err = w.pack.Close()
	}
	if err == nil && w.cfg.Path != Stdout {
		err = w.file.Close()
	}
	return w.failed(err)
}

// failed keeps the first error. What was written stays readable: a packet of which only a part went to the disk
// is taken off again.
func (w *Writer) failed(err error) error {
	if err == nil || w.err != nil {
		return w.err
	}
	if pe := (*os.PathError)(nil); errors.As(err, &pe) {
		err = pe.Err
	}
	w.err = fmt.Errorf("write %q: %w", w.state.Name, err)
	if w.cfg.Path != Stdout {
		if w.pack == nil {
			_ = w.file.Truncate(w.good) // else the reader finds half a packet, which is no harm
		}
		w.file.Close()
	}
	return w.err
}
