package file

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"filippo.io/age"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"tcpcopy/internal/source/capfile"
)

// Stdin is the path that stands for standard input.
const Stdin = "-"

// maxWindow bounds the memory that a zstd file may demand, in bytes.
const maxWindow = 64 << 20

// ageMagic begins each encrypted file.
const ageMagic = "age-encryption.org/"

// input is a file that is being read, with its next packet.
type input struct {
	path   string
	index  int // in Config.Paths
	file   *os.File
	reader *capfile.Reader
	zstd   *zstd.Decoder  // nil: not compressed with zstd
	head   capfile.Packet // the next packet
}

// openInput opens a file and reads its first packet. It returns io.EOF if there is none. read
// counts the bytes that are read from the file.
func openInput(path string, index int, identities []age.Identity, read *atomic.Int64) (
	*input, error) {
	in := &input{path: path, index: index, file: os.Stdin}
	if path != Stdin {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		in.file = f
	}
	err := in.begin(identities, read)
	if err == nil {
		err = in.next()
	}
	if err != nil {
		in.close()
		return nil, err
	}
	return in, nil
}

// ErrEncrypted reports a file that is encrypted, and that none of the identities opens.
var ErrEncrypted = errors.New("encrypted")

// begin detects the file's encryption, compression and format.
func (in *input) begin(identities []age.Identity, read *atomic.Int64) error {
	plain := bufio.NewReaderSize(&counter{in.file, read}, 1<<16)
	if magic, _ := plain.Peek(len(ageMagic)); string(magic) == ageMagic {
		if len(identities) == 0 {
			return fmt.Errorf("%w: wanted --identity FILE, with the secret key", ErrEncrypted)
		}
		clear, err := age.Decrypt(plain, identities...)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrEncrypted, err)
		}
		plain = bufio.NewReaderSize(clear, 1<<16)
	}
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
		in.zstd, err = zstd.NewReader(plain, zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return fmt.Errorf("zstd: %w", err)
		}
		from = in.zstd
	}
	in.reader, err = capfile.NewReader(from)
	return err
}

// next reads the next packet to in.head. A compressed file that ends too early counts as one that
// ends in the middle of a packet.
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

// counter counts the bytes that are read through it.
type counter struct {
	from io.Reader
	n    *atomic.Int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.from.Read(b)
	c.n.Add(int64(n))
	return n, err
}
