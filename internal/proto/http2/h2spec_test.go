package http2

import (
	"slices"
	"strings"
	"testing"
)

// TestH2spec has the cases of h2spec (https://github.com/summerwind/h2spec) in which a server tests
// a client, by its sections of RFC 7540 and in its order. The server has a stream under way, 1, for
// which it has sent no answer. What h2spec wants answered with a connection error ends the copy.
//
// Where it wants an error of a stream that is over already, the copy goes on: a stream error would
// cancel what has ended, and what production has done for the client must not be undone.
func TestH2spec(t *testing.T) {
	const (
		lost    = "lost"
		goes    = "ping true 12345678"
		answer  = "\x88"                                     // :status 200
		dummy   = "\x00\x01x\x01y"                           // a header
		settled = "answered 0: 200\n" + goes                 // its answer, and then it goes on
		reset   = "answered 0: 0 failed\n" + goes            // its end, and then it goes on
		window  = "\x7f\xff\xff\xff"                         // the largest increment
		value   = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // longer than most frames
	)
	type frames = [][]byte
	raw := rawFrame
	ping := raw(framePing, 0, 0, "12345678")
	head := func(flags uint8) []byte { return raw(frameHeaders, flags, 1, answer) }
	more := func(flags uint8, stream uint32) []byte {
		return raw(frameContinuation, flags, stream, dummy)
	}
	cancel := raw(frameReset, 0, 1, "\x00\x00\x00\x08")
	test := raw(frameData, flagEndStream, 1, "test")
	const end, whole = flagEndStream, flagEndStream | flagEndHeaders
	for _, c := range []struct {
		section, name string
		frames        [][]byte
		want          string
	}{
		{"4.1", "a frame with unknown type", frames{raw(0x16, 0, 0, value[:8])}, goes},
		{"4.1", "a frame with undefined flag", frames{raw(framePing, 0x16, 0, "abcdefgh")},
			"ping true abcdefgh\n" + goes},
		{"4.1", "a frame with reserved field bit", frames{raw(framePing, 0x16, 1<<31,
			"abcdefgh")}, "ping true abcdefgh\n" + goes},
		{"4.2", "a DATA frame with 2^14 octets in length", frames{head(flagEndHeaders),
			raw(frameData, end, 1, strings.Repeat("x", 1<<14))}, settled},
		{"4.2", "a large size DATA frame", frames{head(flagEndHeaders),
			raw(frameData, end, 1, strings.Repeat("x", 1<<14+1))}, lost},
		{"4.2", "a large size HEADERS frame", frames{raw(frameHeaders, whole, 1,
			answer+strings.Repeat(dummy, 1<<12))}, lost},
		{"4.3", "invalid header block fragment", frames{raw(frameHeaders, whole, 1, "\x40")},
			lost},
		{"5.1", "idle: a DATA frame", frames{raw(frameData, end, 2, "test")}, lost},
		{"5.1", "idle: a RST_STREAM frame", frames{raw(frameReset, 0, 2, value[:4])}, lost},
		{"5.1", "idle: a WINDOW_UPDATE frame", frames{raw(frameWindow, 0, 2,
			"\x00\x00\x00\x64")}, lost},
		{"5.1", "idle: a CONTINUATION frame", frames{more(flagEndHeaders, 2)}, lost},
		{"5.1", "closed: a DATA frame after RST_STREAM", frames{head(flagEndHeaders), cancel, test},
			reset},
		{"5.1", "closed: a HEADERS frame after RST_STREAM", frames{head(flagEndHeaders), cancel,
			head(whole)}, reset},
		{"5.1", "closed: a CONTINUATION frame after RST_STREAM", frames{head(flagEndHeaders),
			cancel, more(flagEndHeaders, 1)}, lost},
		{"5.1", "closed: a DATA frame", frames{head(whole), test}, settled},
		{"5.1", "closed: a HEADERS frame", frames{head(whole), head(whole)}, settled},
		{"5.1", "closed: a CONTINUATION frame", frames{head(whole), more(flagEndHeaders, 1)}, lost},
		{"5.1.1", "even-numbered stream identifier", frames{raw(frameHeaders, whole, 2,
			answer)}, lost},
		{"5.4.1", "an invalid PING frame, as a connection error", frames{raw(framePing, 0, 3,
			value[:8])}, lost},
		{"5.5", "an unknown extension frame", frames{raw(0x16, 0, 0, value[:8])}, goes},
		{"6.1", "a DATA frame with 0x0 stream identifier", frames{raw(frameData, end, 0,
			"test")}, lost},
		{"6.1", "a DATA frame on a stream that is not open", frames{head(whole), test}, settled},
		{"6.2", "HEADERS without END_HEADERS, and PRIORITY", frames{head(0),
			raw(framePriority, 0, 1, value[:5]), more(flagEndHeaders, 1)}, lost},
		{"6.2", "a HEADERS frame with 0x0 stream identifier", frames{raw(frameHeaders, whole,
			0, answer)}, lost},
		{"6.2", "a HEADERS frame with invalid pad length", frames{raw(frameHeaders,
			flagPadded, 1, "\x11"+answer)}, lost},
		{"6.3", "a PRIORITY frame with 0x0 stream identifier", frames{raw(framePriority, 0, 0,
			value[:5])}, lost},
		{"6.3", "a PRIORITY frame with a length other than 5 octets", frames{head(whole),
			raw(framePriority, 0, 1, value[:4])}, settled},
		{"6.4", "a RST_STREAM frame with 0x0 stream identifier", frames{raw(frameReset, 0, 0,
			value[:4])}, lost},
		{"6.4", "a RST_STREAM frame on a idle stream", frames{raw(frameReset, 0, 2,
			value[:4])}, lost},
		{"6.4", "a RST_STREAM frame with a length other than 4 octets", frames{raw(frameReset,
			0, 1, value[:3])}, lost},
		{"6.5", "a SETTINGS frame with ACK flag and payload", frames{raw(frameSettings,
			flagAck, 0, value[:1])}, lost},
		{"6.5", "a SETTINGS frame with a stream identifier", frames{raw(frameSettings, 0, 1,
			"\x00\x03\x00\x00\x00\x64")}, lost},
		{"6.5", "a SETTINGS frame with a length other than a multiple of 6 octets",
			frames{raw(frameSettings, 0, 0, "\x00\x03\x00")}, lost},
		{"6.5.2", "an initial window above the maximum", frames{raw(frameSettings, 0, 0,
			"\x00\x04\x80\x00\x00\x00")}, lost},
		{"6.5.2", "a frame size below the initial value", frames{raw(frameSettings, 0, 0,
			"\x00\x05\x00\x00\x3f\xff")}, lost},
		{"6.5.2", "a frame size above the maximum", frames{raw(frameSettings, 0, 0,
			"\x00\x05\x01\x00\x00\x00")}, lost},
		{"6.5.2", "a SETTINGS frame with unknown identifier", frames{raw(frameSettings, 0, 0,
			"\x00\xff\x00\x00\x00\x01")}, "settings true\n" + goes},
		{"6.5.3", "a SETTINGS frame without ACK flag", frames{raw(frameSettings, 0, 0, "")},
			"settings true\n" + goes},
		{"6.7", "a PING frame", nil, goes},
		{"6.7", "a PING frame with ACK", frames{raw(framePing, flagAck, 0, value[:8])}, goes},
		{"6.7", "a PING frame with a stream identifier", frames{raw(framePing, 0, 1,
			value[:8])}, lost},
		{"6.7", "a PING frame with a length other than 8", frames{raw(framePing, 0, 0,
			value[:6])}, lost},
		{"6.8", "a GOAWAY frame with a stream identifier", frames{raw(frameGoAway, 0, 1,
			value[:8])}, lost},
		{"6.9", "a WINDOW_UPDATE frame with increment 0", frames{raw(frameWindow, 0, 0,
			value[:4])}, lost},
		{"6.9", "a WINDOW_UPDATE frame with increment 0 on a stream", frames{raw(frameWindow,
			0, 1, value[:4])}, lost},
		{"6.9", "a WINDOW_UPDATE frame with a length other than 4 octets",
			frames{raw(frameWindow, 0, 0, "\x00\x00\x01")}, lost},
		{"6.9.1", "a window above 2^31-1", frames{raw(frameWindow, 0, 0, window),
			raw(frameWindow, 0, 0, window)}, lost},
		{"6.9.1", "a window above 2^31-1 on a stream", frames{raw(frameWindow, 0, 1, window),
			raw(frameWindow, 0, 1, window)}, lost},
		{"6.10", "multiple CONTINUATION frames", frames{head(end), more(0, 1),
			more(flagEndHeaders, 1)}, settled},
		{"6.10", "CONTINUATION followed by another frame", frames{head(0), more(0, 1), test}, lost},
		{"6.10", "CONTINUATION with 0x0 stream identifier", frames{head(end),
			more(flagEndHeaders, 0)}, lost},
		{"6.10", "CONTINUATION after HEADERS with END_HEADERS", frames{head(whole),
			more(flagEndHeaders, 1)}, lost},
		{"6.10", "CONTINUATION after CONTINUATION with END_HEADERS", frames{head(end),
			more(flagEndHeaders, 1), more(flagEndHeaders, 1)}, lost},
		{"6.10", "CONTINUATION after DATA", frames{head(0), test, more(0, 1),
			more(flagEndHeaders, 0)}, lost},
	} {
		t.Run(c.section+" "+c.name, func(t *testing.T) {
			for _, step := range []int{0, 1} {
				r := newRig(t)
				r.step = step
				r.client.post(1, "/a")
				r.client.get(3, "/b")
				r.feed(0)
				r.take()
				err := r.tryHear(slices.Concat(append(c.frames, ping)...))
				switch {
				case c.want == lost:
					if !isLost(err) {
						t.Errorf("in steps of %d: %v, wanted that the protocol is lost", step, err)
					}
				case err != nil:
					t.Errorf("in steps of %d: %v", step, err)
				default:
					r.wants(strings.Split(c.want, "\n")...)
				}
			}
		})
	}
}

// A call's padding must not be longer than its frame (h2spec 6.1). Of other content only the length
// matters, and padding is not looked at.
func TestH2specPadding(t *testing.T) {
	for _, step := range []int{0, 1} {
		r := calling(t, step, true)
		bad := rawFrame(frameData, flagEndStream|flagPadded, 1, "\x06Test")
		if err := r.tryHear(bad); !isLost(err) {
			t.Errorf("in steps of %d: %v, wanted that the protocol is lost", step, err)
		}
	}
}
