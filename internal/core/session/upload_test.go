package session

import (
	"strings"
	"testing"

	"tcpcopy/internal/core/ledger"
)

// Content that waits for the target's windows is held once: in the record. What the copy is given,
// and the account, are right nevertheless, over a second connection too.
func TestUploadIsHeldOnce(t *testing.T) {
	const frames, size = 60, 16000
	total := frames * (size + 9)
	r := fresh(t, inStreams, func(svc *Service) { svc.MaxBytes = total + total/8 })
	r.data(h2Preface + h2Settings)
	r.tells("\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00") // no window
	r.takes()
	before := r.stream().text
	head := "\x00\x00\x03\x01\x04\x00\x00\x00\x01\x83\x86\x84" // POST /
	r.data(head)
	var want strings.Builder
	for i := range frames {
		flags := "\x00"
		if i == frames-1 {
			flags = "\x01"
		}
		frame := "\x00\x3e\x80\x00" + flags + "\x00\x00\x00\x01" +
			strings.Repeat(string(byte('a'+i%26)), size)
		want.WriteString(frame)
	}
	for rest := want.String(); rest != ""; { // in pieces of which a buffer takes no more room
		n := min(len(rest), 4096)
		r.data(rest[:n])
		rest = rest[n:]
	}
	held := func() {
		t.Helper()
		if n := r.s.Held(); n < total || n > total+total/8 {
			t.Errorf("%d bytes are held of %d", n, total)
		}
	}
	r.copied(before + head)
	held()
	for _, stream := range []string{"\x00", "\x01"} { // WINDOW_UPDATE by 0x7f0000
		r.tells("\x00\x00\x04\x08\x00\x00\x00\x00" + stream + "\x00\x7f\x00\x00")
	}
	held()
	got := strings.TrimPrefix(r.stream().text, before+head)
	if content(got) != content(want.String()) {
		t.Error("the copy was given other content")
	}
	r.takes()
	if n := r.s.Held(); n > total/8 {
		t.Errorf("%d bytes are held that were taken", n)
	}
	sent := uint64(len(h2Preface+h2Settings+head) + total)
	r.bytes(sent, ledger.None, sent)
}

// content returns the content of DATA frames.
func content(frames string) string {
	var all strings.Builder
	for len(frames) > 9 {
		n := int(frames[0])<<16 | int(frames[1])<<8 | int(frames[2])
		all.WriteString(frames[9 : 9+n])
		frames = frames[9+n:]
	}
	return all.String()
}
