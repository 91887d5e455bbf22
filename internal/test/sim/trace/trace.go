// Package trace keeps the packets of a test and writes them as a pcap file when it fails. Tests
// only.
package trace

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
)

// Trace holds packets in the order in which they were sent.
type Trace struct {
	times   []mono.Time
	packets [][]byte
}

// Add notes a segment sent at a time. Where only its header is known, zeros stand for its bytes.
func (tr *Trace) Add(at mono.Time, s *packet.Segment) {
	full := *s
	if s.Cut() {
		full.Payload = make([]byte, min(s.Len, 65000))
		full.Len = len(full.Payload)
	}
	tr.times = append(tr.times, at)
	tr.packets = append(tr.packets, packet.Append(nil, &full))
}

// Write writes the packets into a file called after name, in the test's artifact directory where go
// test keeps one (-artifacts) and in the temporary directory otherwise, and returns its path.
func (tr *Trace) Write(t testing.TB, name string) string {
	dir := os.TempDir()
	if f := flag.Lookup("test.artifacts"); f != nil && f.Value.String() == "true" {
		dir = t.ArtifactDir()
	}
	clean := strings.Map(func(r rune) rune {
		if r == '/' || r == ' ' {
			return '-'
		}
		return r
	}, name)
	path := filepath.Join(dir, clean+".pcap")
	f, err := os.Create(path)
	if err != nil {
		t.Logf("write pcap: %v", err)
		return ""
	}
	defer f.Close()
	w := pcapgo.NewWriterNanos(f)
	err = w.WriteFileHeader(65535, layers.LinkTypeRaw)
	for i := range tr.packets {
		if err != nil {
			break
		}
		b := tr.packets[i]
		err = w.WritePacket(gopacket.CaptureInfo{
			Timestamp: time.Unix(0, int64(tr.times[i])), CaptureLength: len(b), Length: len(b),
		}, b)
	}
	if err != nil {
		t.Log(fmt.Errorf("write pcap %q: %w", path, err))
	}
	return path
}
