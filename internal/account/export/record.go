package export

import (
	"bufio"
	"fmt"
	"io"
	"time"

	"tcpcopy/internal/core/ledger"
)

// Recording is the account of a recording (tcpcopy record).
type Recording struct {
	Version    string
	Start, Now time.Time
	Packets    ledger.Packets
	Sampled    uint64 // packets left out by --sample
	Sessions   uint64 // sessions recorded from their beginning
	Name       string // of the file that was written last
	Files      int    // written
	Removed    int    // files removed by --keep
	Written    uint64 // packets
	Bytes      int64  // written, before compression
	// Of --scrub and --scrub-json: values that were replaced, bytes that were blanked because they
	// could not be followed, and connections of which all were, because they have no headers.
	Scrubbed, Blanked, Foreign uint64
}

// RecordingLine returns the account in one line.
func RecordingLine(r *Recording) string {
	line := fmt.Sprintf("recorded %s, %s of %s, %s lost in the kernel; %s",
		count(r.Written, "packet", "packets"), size(uint64(r.Bytes)),
		count(r.Sessions, "new session", "new sessions"),
		number(r.Packets.KernelDrop), r.Name)
	if r.Sampled > 0 {
		line += fmt.Sprintf("; %s left out by --sample", number(r.Sampled))
	}
	if r.Scrubbed+r.Blanked > 0 {
		line += "; " + scrubbed(r)
	}
	return line
}

// scrubbed returns what was replaced, in words.
func scrubbed(r *Recording) string {
	s := fmt.Sprintf("%s scrubbed", count(r.Scrubbed, "value", "values"))
	if r.Blanked > 0 {
		s += fmt.Sprintf(", %s blanked that could not be followed", size(r.Blanked))
	}
	if r.Foreign > 0 {
		s += fmt.Sprintf(", of %s without headers", count(r.Foreign, "connection",
			"connections"))
	}
	return s
}

// RecordingSummary writes the table that a recording prints at its end.
func RecordingSummary(w io.Writer, r *Recording) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "tcpcopy %s recorded for %s\n\n", r.Version, span(r.Now.Sub(r.Start)))
	packets(b, &r.Packets)
	row(b, "recorded", "%s, %s of %s", count(r.Written, "packet", "packets"),
		size(uint64(r.Bytes)), count(r.Sessions, "new session", "new sessions"))
	if r.Sampled > 0 {
		row(b, "", "%s left out by --sample", count(r.Sampled, "packet", "packets"))
	}
	if r.Scrubbed+r.Blanked > 0 {
		row(b, "private", "%s", scrubbed(r))
	}
	files := fmt.Sprintf("%s, the last is %s", count(uint64(r.Files), "file", "files"), r.Name)
	if r.Removed > 0 {
		files += fmt.Sprintf("; %s removed (--keep)", number(uint64(r.Removed)))
	}
	row(b, "files", "%s", files)
	if r.Packets.KernelDrop > 0 {
		row(b, "hint", "packets were lost before they could be written: a larger ring (-B), a "+
			"faster disk, or a share of the sessions (-r)")
	}
	return b.Flush()
}
