// Package recording writes capture files. It begins a new file when one is large or old enough, and
// compresses files whose names say so. Whatever ends a file, it is readable up to the last packet
// that reached the disk.
//
// The package knows packets as bytes and times. It starts no goroutine and reads no clock; the
// engine calls it with what it has captured.
package recording

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"tcpcopy/internal/source/capfile"
)

// Stdout is the path that stands for standard output.
const Stdout = "-"

// Config says what to write.
type Config struct {
	Path string // Stdout, or a name that KindOf accepts
	Snap int    // largest number of bytes to keep of a packet; 0: all
	// A new file begins when the current one has RotateBytes bytes or is RotateEvery old; 0 means
	// never. With either, the names of files carry the time at which they begin.
	RotateBytes int64
	RotateEvery time.Duration
	Keep        int // how many files of this run to keep, the newest; 0: all
	// Recipients are the public keys that files are encrypted to; empty: they are not encrypted.
	// Then the name ends in .age, and only then.
	Recipients []age.Recipient
}

// Kind is what a file's name says about its format.
type Kind struct {
	Stem, Ending string // the parts of the path: "peak" and ".pcapng.gz"
	Format       capfile.Format
	Packing      string // ".gz", ".zst" or empty
	Encrypted    bool   // it ends in .age
}

// KindOf parses a file's name, which ends in .pcapng or .pcap, perhaps in .gz or .zst, and perhaps
// in .age. It reports false for any other name. Standard output is pcapng.
func KindOf(path string) (Kind, bool) {
	k := Kind{Stem: path}
	if path == Stdout {
		return k, true
	}
	k.Stem, k.Encrypted = strings.CutSuffix(k.Stem, encryptedEnding)
	for _, packing := range []string{".gz", ".zst"} {
		if s, ok := strings.CutSuffix(k.Stem, packing); ok {
			k.Stem, k.Packing = s, packing
			break
		}
	}
	formats := map[string]capfile.Format{".pcapng": capfile.PCAPNG, ".pcap": capfile.PCAP}
	for ending, format := range formats {
		if s, ok := strings.CutSuffix(k.Stem, ending); ok && s != "" {
			k.Stem, k.Format, k.Ending = s, format, ending+k.Packing
			if k.Encrypted {
				k.Ending += encryptedEnding
			}
			return k, true
		}
	}
	return k, false
}

// encryptedEnding is what the names of encrypted files end in.
const encryptedEnding = ".age"

// State is what a Writer has written.
type State struct {
	Name    string // of the current file
	Files   int    // files begun
	Packets uint64
	Bytes   int64 // of packets with their record headers, before compression
	Removed int   // files removed because of Config.Keep
}

// Writer writes the files. After an error, every call returns that error.
type Writer struct {
	cfg   Config
	kind  Kind
	state State

	file    *os.File
	good    int64          // bytes of the file up to the last whole packet
	cipher  io.WriteCloser // nil: the file is not encrypted
	pack    io.WriteCloser
	out     *capfile.Writer
	begun   time.Time
	since   capfile.Counts // the capture's counts when the file began
	names   []string       // the files of this run that still exist
	err     error
	flushed time.Time
}

// flushEvery is how long a packet may wait in memory.
const flushEvery = time.Second

// New begins to write. now is the time at which the first file begins.
func New(cfg Config, now time.Time) (*Writer, error) {
	kind, ok := KindOf(cfg.Path)
	if !ok {
		return nil, fmt.Errorf("record to %q: wanted a name that ends in .pcapng or .pcap, "+
			"and perhaps .gz or .zst", cfg.Path)
	}
	w := &Writer{cfg: cfg, kind: kind}
	if err := w.open(now, capfile.Counts{}); err != nil {
		return nil, err
	}
	return w, nil
}

// rotates reports whether several files are written.
func (w *Writer) rotates() bool { return w.cfg.RotateBytes > 0 || w.cfg.RotateEvery > 0 }

// open begins a file.
func (w *Writer) open(now time.Time, seen capfile.Counts) error {
	if w.cfg.Path == Stdout {
		w.file = os.Stdout
	} else if err := w.create(now); err != nil {
		return err
	}
	w.good, w.cipher, w.pack, w.begun, w.since, w.flushed = 0, nil, nil, now, seen, now
	w.state.Files++
	w.state.Name = w.file.Name()
	var to io.Writer = (*counted)(w)
	if len(w.cfg.Recipients) > 0 {
		c, err := age.Encrypt(to, w.cfg.Recipients...)
		if err != nil {
			return w.failed(fmt.Errorf("encrypt: %w", err))
		}
		w.cipher, to = c, c
	}
	switch w.kind.Packing {
	case ".gz":
		w.pack = gzip.NewWriter(to)
	case ".zst":
		z, err := zstd.NewWriter(to, zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderLevel(zstd.SpeedFastest))
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

// fileMode is the mode of capture files: they hold what clients sent, passwords too.
const fileMode = 0o600

// private takes a file that existed before from others than its owner. A pipe or device is left as
// it is.
func private(f *os.File) error {
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Mode().Perm()&0o077 == 0 {
		return err
	}
	return f.Chmod(st.Mode().Perm() &^ 0o077)
}

// create creates the file. One of several carries the time in its name and never replaces a file.
func (w *Writer) create(now time.Time) (err error) {
	if !w.rotates() {
		w.file, err = os.OpenFile(w.cfg.Path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
		if err != nil {
			return err
		}
		return private(w.file)
	}
	for n := 1; ; n++ {
		name := w.kind.Stem + now.Format("-20060102-150405")
		if n > 1 {
			name += fmt.Sprintf("-%d", n)
		}
		name += w.kind.Ending
		w.file, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
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

// trim removes files beyond those to keep, oldest first.
func (w *Writer) trim() {
	for w.cfg.Keep > 0 && len(w.names) > w.cfg.Keep {
		if os.Remove(w.names[0]) == nil {
			w.state.Removed++
		}
		w.names = w.names[1:]
	}
}

// counted writes to the file and follows how many bytes of it are whole packets. The capfile.Writer
// hands on whole packets only.
type counted Writer

// Write implements io.Writer.
func (c *counted) Write(b []byte) (int, error) {
	n, err := c.file.Write(b)
	if err != nil {
		c.good += int64(c.kind.Format.Whole(b[:max(n, 0)]))
	} else {
		c.good += int64(n)
	}
	return n, err
}

// Write appends a packet that was captured at the given time. wire is its length on the wire in
// bytes. seen counts what has been captured and lost so far.
func (w *Writer) Write(at time.Time, data []byte, wire int, seen capfile.Counts) error {
	if w.err != nil {
		return w.err
	}
	old := w.cfg.RotateEvery > 0 && at.Sub(w.begun) >= w.cfg.RotateEvery
	if old || w.cfg.RotateBytes > 0 && w.out.Size() >= w.cfg.RotateBytes {
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

// Tick flushes packets that have waited in memory for a second. The caller calls it regularly.
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

// State returns what has been written so far.
func (w *Writer) State() State { return w.state }

// Close ends the last file. seen counts what was captured and lost in all.
func (w *Writer) Close(now time.Time, seen capfile.Counts) error {
	if w.err != nil {
		return w.err
	}
	return w.end(now, seen)
}

// end ends a file.
func (w *Writer) end(now time.Time, seen capfile.Counts) error {
	err := w.out.End(now.UnixNano(), capfile.Counts{
		Received: seen.Received - w.since.Received, Dropped: seen.Dropped - w.since.Dropped,
	})
	for _, layer := range []io.WriteCloser{w.pack, w.cipher} {
		if layer != nil && err == nil {
			err = layer.Close()
		}
	}
	if err == nil && w.cfg.Path != Stdout {
		err = w.file.Close()
	}
	return w.failed(err)
}

// failed keeps the first error and removes a partly written packet from the file.
func (w *Writer) failed(err error) error {
	if err == nil || w.err != nil {
		return w.err
	}
	if pe := (*os.PathError)(nil); errors.As(err, &pe) {
		err = pe.Err
	}
	w.err = fmt.Errorf("write %q: %w", w.state.Name, err)
	if w.cfg.Path != Stdout {
		if w.pack == nil && w.cipher == nil {
			_ = w.file.Truncate(w.good) // best effort: readers tolerate part of a packet
		}
		w.file.Close()
	}
	return w.err
}
