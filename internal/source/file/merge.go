package file

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"

	"filippo.io/age"

	"tcpcopy/internal/source/capfile"
)

// merged reads several files as one, in the order of their packets' times. A file is open only
// while its packets are due, so a day of rotated files takes no more memory than one.
type merged struct {
	identities []age.Identity
	waiting    []start  // files not yet begun, in the order of their first packets
	active     []*input // files being read
	current    *input   // the file whose head next returned last

	counts    capfile.Counts // of finished files
	truncated int            // files that end in the middle of a packet
	corrupt   []string       // files that can be read only in part, with the error
	read      *atomic.Int64
}

// start is a file that has not been begun.
type start struct {
	path  string
	index int
	first int64  // time of the first packet
	open  *input // set if the file cannot be opened twice
}

// openFiles reads the beginning of each file. It leaves out files without packets, and returns an
// error for one that is not a capture file.
func openFiles(cfg *Config, read *atomic.Int64) (*merged, error) {
	m := &merged{identities: cfg.Identities, read: read}
	for i, path := range cfg.Paths {
		in, err := openInput(path, i, cfg.Identities, new(atomic.Int64))
		switch {
		case errors.Is(err, io.EOF):
			continue
		case errors.Is(err, capfile.ErrTruncated):
			m.truncated++
			continue
		case err != nil:
			m.close()
			return nil, fmt.Errorf("open capture file: %w", named(path, err))
		}
		s := start{path: path, index: i, first: in.head.Time}
		if regular(in.file) {
			in.close()
		} else {
			s.open = in
		}
		m.waiting = append(m.waiting, s)
	}
	slices.SortStableFunc(m.waiting, func(a, b start) int { return cmp.Compare(a.first, b.first) })
	return m, nil
}

// named adds the file's name to an error, once.
func named(path string, err error) error {
	if pe := (*os.PathError)(nil); errors.As(err, &pe) {
		return fmt.Errorf("%q: %w", path, pe.Err)
	}
	if path == Stdin {
		return fmt.Errorf("standard input: %w", err)
	}
	return fmt.Errorf("%q: %w", path, err)
}

// regular reports whether the file can be opened again and read without blocking.
func regular(f *os.File) bool {
	fi, err := f.Stat()
	return err == nil && fi.Mode().IsRegular() && f != os.Stdin
}

// next returns the file whose head is the next packet, valid until the next call. It returns io.EOF
// at the end of all files.
func (m *merged) next() (*input, error) {
	if in := m.current; in != nil {
		m.current = nil
		if err := in.next(); err != nil {
			m.finish(in, err)
		}
	}
	for {
		var first *input
		for _, in := range m.active {
			if first == nil || in.head.Time < first.head.Time {
				first = in
			}
		}
		if len(m.waiting) == 0 || first != nil && first.head.Time < m.waiting[0].first {
			if first == nil {
				return nil, io.EOF
			}
			m.current = first
			return first, nil
		}
		s := m.waiting[0]
		m.waiting = m.waiting[1:]
		in := s.open
		if in == nil {
			var err error
			if in, err = openInput(s.path, s.index, m.identities, m.read); err != nil {
				m.failed(s.path, err)
				continue
			}
		}
		m.active = append(m.active, in)
	}
}

// finish removes a file that can be read no further.
func (m *merged) finish(in *input, err error) {
	m.active = slices.DeleteFunc(m.active, func(a *input) bool { return a == in })
	c := in.reader.Counts()
	m.counts.Received += c.Received
	m.counts.Dropped += c.Dropped
	in.close()
	m.failed(in.path, err)
}

// failed records why a file ended.
func (m *merged) failed(path string, err error) {
	switch {
	case errors.Is(err, io.EOF):
	case errors.Is(err, capfile.ErrTruncated):
		m.truncated++
	default:
		m.corrupt = append(m.corrupt, named(path, err).Error())
	}
}

func (m *merged) close() {
	for _, in := range m.active {
		in.close()
	}
	for _, s := range m.waiting {
		if s.open != nil {
			s.open.close()
		}
	}
	m.active, m.waiting = nil, nil
}
