package file

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"tcpcopy/internal/source/capfile"
)

// Stdin is the path that means standard input.
const Stdin = "-"

// maxWindow bounds what a zstd file may want to have in memory at once.
const maxWindow = 64 << 20

// input is one file that is being read, with the next packet of it.
type input struct {
	path   string
	index  int // among the paths
	file   *os.File
	reader *capfile.Reader
	zstd   *zstd.Decoder // nil: the file is not compressed so
	head   capfile.Packet
}

// openInput opens a file and reads its first packet; io.EOF where it has none. read counts the bytes that
// are taken from it.
func openInput(path string, index int, read *atomic.Int64) (*input, error) {
	in := &input{path: path, index: index, file: os.Stdin}
	if path != Stdin {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		in.file = f
	}
	err := in.begin(read)
	if err == nil {
		err = in.next()
	}
	if err != nil {
		in.close()
		return nil, err
	}
	return in, nil
}

// begin finds out what the file is: compressed or not, and how packets lie in it.
func (in *input) begin(read *atomic.Int64) error {
	plain := bufio.NewReaderSize(&counter{in.file, read}, 1<<16)
	var from io.Reader = plain
	first, err := plain.Peek(4)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return err
	case bytes.HasPrefix(first, []byte{0x1f, 0x8b}):
		if from, err = gzip.NewReader(plain); err != nil {
			return fmt.Errorf("gzip: %w", err)
		}
	case bytes.Equal(first, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		in.zstd, err = zstd.NewReader(plain, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return fmt.Errorf("zstd: %w", err)
		}
		from = in.zstd
	}
	in.reader, err = capfile.NewReader(from)
	return err
}

// next reads the next packet to in.head. A compressed file that ends too early is one that ends in the middle
// of a packet.
func (in *input) next() error {
	err := in.reader.Next(&in.head)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return capfile.ErrTruncated
	}
	return err
}

func (in *input) close() {
	if in.zstd != nil {
		in.zstd.Close()
	}
	if in.path != Stdin {
		in.file.Close()
	}
}

// counter counts what is read.
type counter struct {
	from io.Reader
	n    *atomic.Int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.from.Read(b)
	c.n.Add(int64(n))
	return n, err
}
