package http2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
)

// peer writes frames as golang.org/x/net does.
type peer struct {
	*http2.Framer
	out   bytes.Buffer
	block bytes.Buffer
	enc   *hpack.Encoder
}

func newPeer() *peer {
	p := new(peer)
	p.Framer = http2.NewFramer(&p.out, nil)
	p.AllowIllegalWrites = true
	p.enc = hpack.NewEncoder(&p.block)
	return p
}

// fields encodes "name value" pairs.
func (p *peer) fields(list ...string) []byte {
	p.block.Reset()
	for _, f := range list {
		name, value, _ := strings.Cut(f, " ")
		if err := p.enc.WriteField(hpack.HeaderField{Name: name, Value: value}); err != nil {
			panic(err)
		}
	}
	return p.block.Bytes()
}

// head writes a HEADERS frame.
func (p *peer) head(stream uint32, end bool, list ...string) {
	must(p.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, EndStream: end,
		EndHeaders: true, BlockFragment: p.fields(list...)}))
}

// get writes a request without content.
func (p *peer) get(stream uint32, path string) {
	p.head(stream, true, ":method GET", ":scheme http", ":authority a", ":path "+path)
}

// post writes the head of a request with content.
func (p *peer) post(stream uint32, path string) {
	p.head(stream, false, ":method POST", ":scheme http", ":authority a", ":path "+path)
}

// answer writes a whole answer.
func (p *peer) answer(stream uint32) {
	p.head(stream, false, ":status 200", "server test")
	must(p.WriteData(stream, true, []byte("hello")))
}

// take returns what was written.
func (p *peer) take() []byte {
	b := bytes.Clone(p.out.Bytes())
	p.out.Reset()
	return b
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// rig is a client whose copy is a Client, production's server, and a target.
type rig struct {
	t                           *testing.T
	c                           *Client
	client, production, answers *peer

	follower proto.Follower
	scratch  []proto.Answer
	step     int // how many bytes a reader gets at once; 0: all
	served   uint64
	log      strings.Builder // what the target has received, and the steps
	said     string          // the texts of answers
	wire     bytes.Buffer    // to the target, not read yet
	reader   *http2.Framer
	decoder  *hpack.Decoder
	begun    bool   // the target has received the preface
	fed      int    // bytes of the client
	text     []byte // these
	base     int    // how many of them precede the copy
	taken    int    // bytes of the client in steps
	left     int    // those of them that were left out
	now      mono.Time
}

// newRig returns a rig whose client has sent its preface and whose target its SETTINGS.
func newRig(t *testing.T, settings ...http2.Setting) *rig {
	r := bareRig(t)
	r.begin(false)
	r.client.out.WriteString(preface)
	must(r.client.WriteSettings())
	r.feed(0)
	must(r.answers.WriteSettings(settings...))
	r.hear()
	r.take()
	return r
}

func bareRig(t *testing.T) *rig {
	return &rig{t: t, c: NewClient(&Settings{}), client: newPeer(), production: newPeer(),
		now: mono.Time(time.Hour)}
}

// begin begins a copy.
func (r *rig) begin(adopted bool) {
	r.answers = newPeer()
	r.base = r.taken
	r.follower = proto.Follow(NewAnswers())
	r.wire.Reset()
	r.begun = false
	r.reader = http2.NewFramer(io.Discard, &r.wire)
	r.reader.SetMaxReadFrameSize(1 << 24)
	r.decoder = hpack.NewDecoder(0, nil)
	var out proto.Out
	must(r.c.Begin(adopted, &out))
	r.carryOut(&out)
}

// feed hands over what the client has written, having seen so much of production.
func (r *rig) feed(seen uint64) {
	r.t.Helper()
	if err := r.tryFeed(r.client.take(), seen); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) tryFeed(p []byte, seen uint64) error {
	for len(p) > 0 {
		n := len(p)
		if r.step > 0 {
			n = min(n, r.step)
		}
		var out proto.Out
		r.fed += n
		r.text = append(r.text, p[:n]...)
		r.c.Turn(r.now)
		err := r.c.Feed(p[:n], seen, &out)
		r.carryOut(&out)
		if err != nil {
			return err
		}
		r.goes()
		p = p[n:]
	}
	return nil
}

// serve has production's server send what it has written, and returns how much it has sent.
func (r *rig) serve() uint64 {
	p := r.production.take()
	r.c.Server(r.served, p)
	r.served += uint64(len(p))
	return r.served
}

// hear hands over what the target has written.
func (r *rig) hear() {
	r.t.Helper()
	if err := r.tryHear(r.answers.take()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) tryHear(p []byte) error {
	for len(p) > 0 {
		n := len(p)
		if r.step > 0 {
			n = min(n, r.step)
		}
		for _, told := range r.follower.Feed(mono.Time(0), p[:n], nil, &r.scratch) {
			if len(told.Bytes) == 0 {
				return fmt.Errorf("an answer of its own: %+v", told)
			}
			var out proto.Out
			err := r.c.Kept(told.Bytes, &out)
			r.carryOut(&out)
			if err != nil {
				return err
			}
			r.goes()
		}
		if r.follower.Lost() {
			return fmt.Errorf("%w: by the reader of answers", proto.ErrLost)
		}
		p = p[n:]
	}
	return nil
}

// goes has go what may at the rig's time, and returns when that must be looked at again.
func (r *rig) goes() mono.Time {
	r.t.Helper()
	var out proto.Out
	wake := r.c.Go(r.now, &out)
	r.carryOut(&out)
	return wake
}

// wait lets time pass. Go is called when it has asked for that.
func (r *rig) wait(d time.Duration) {
	r.t.Helper()
	for end := r.now.Add(d); ; {
		wake := r.goes()
		if wake <= r.now {
			r.t.Fatalf("Go asks to be called again at %v, at %v", wake, r.now)
		}
		if r.now = min(end, wake); r.now == end {
			r.goes()
			return
		}
	}
}

// carryOut does what a session does with steps.
func (r *rig) carryOut(out *proto.Out) {
	r.t.Helper()
	for i := range out.Steps {
		switch st := &out.Steps[i]; st.Kind {
		case proto.Say:
			r.taken += st.N
			r.wire.Write(out.Text[st.From:st.To])
		case proto.Own:
			if r.base+st.From < r.taken || st.N != 0 {
				r.t.Fatalf("bytes from %d on go again, which a step has taken", st.From)
			}
			r.wire.Write(r.text[r.base+st.From : r.base+st.To])
		case proto.LeaveOut:
			r.taken += st.N
			r.left += st.N
		case proto.Refused:
			fmt.Fprintf(&r.log, "refused %s\n", st.Reason)
		case proto.Answered:
			r.said += st.Answer.Text
			fmt.Fprintf(&r.log, "answered %d: %d", st.Request.Number, st.Answer.Status)
			if st.Answer.Interim {
				r.log.WriteString(" interim")
			}
			if st.Answer.Failed {
				r.log.WriteString(" failed")
			}
			r.log.WriteByte('\n')
		case proto.Hinted:
			r.follower.Expect(st.Request.Number, st.Request.Hint)
		case proto.Abandoned:
			fmt.Fprintf(&r.log, "abandoned %d\n", st.Request.Number)
		}
	}
	r.read()
	if r.taken > r.fed {
		r.t.Fatalf("steps take %d bytes of %d", r.taken, r.fed)
	}
}

// read logs the frames that the target has received.
func (r *rig) read() {
	if !r.begun && r.wire.Len() > 0 {
		if got := r.wire.Next(len(preface)); string(got) != preface {
			r.t.Fatalf("the target has received %q", got)
		}
		r.begun = true
	}
	for r.wire.Len() > 0 {
		f, err := r.reader.ReadFrame()
		if err != nil {
			r.t.Fatalf("the target cannot read: %v", err)
		}
		end := ""
		if f.Header().Flags&http2.FlagDataEndStream != 0 {
			end = " end"
		}
		id := f.Header().StreamID
		switch f := f.(type) {
		case *http2.HeadersFrame:
			block := bytes.Clone(f.HeaderBlockFragment())
			for more := !f.HeadersEnded(); more; {
				next, err := r.reader.ReadFrame()
				if err != nil {
					r.t.Fatal(err)
				}
				c := next.(*http2.ContinuationFrame)
				block, more = append(block, c.HeaderBlockFragment()...), !c.HeadersEnded()
			}
			fields, err := r.decoder.DecodeFull(block)
			if err != nil {
				r.t.Fatal(err)
			}
			fmt.Fprintf(&r.log, "headers %d", id)
			for _, h := range fields {
				if h.Name != ":scheme" && (h.Name != ":authority" || h.Value != "a") {
					r.log.WriteString(" " + h.Value)
				}
			}
			fmt.Fprintf(&r.log, "%s\n", end)
		case *http2.DataFrame:
			fmt.Fprintf(&r.log, "data %d %s%s\n", id, f.Data(), end)
		case *http2.RSTStreamFrame:
			fmt.Fprintf(&r.log, "reset %d %d\n", id, f.ErrCode)
		case *http2.PingFrame:
			fmt.Fprintf(&r.log, "ping %v %s\n", f.IsAck(), f.Data[:])
		case *http2.WindowUpdateFrame:
			fmt.Fprintf(&r.log, "window %d %d\n", id, f.Increment)
		case *http2.SettingsFrame:
			fmt.Fprintf(&r.log, "settings %v\n", f.IsAck())
		default:
			fmt.Fprintf(&r.log, "frame %d\n", f.Header().Type)
		}
	}
}

// take returns the log so far, and empties it.
func (r *rig) take() string {
	s := r.log.String()
	r.log.Reset()
	return s
}

// wants compares the log with what is wanted, and empties it.
func (r *rig) wants(want ...string) {
	r.t.Helper()
	if got := strings.TrimSuffix(r.take(), "\n"); got != strings.Join(want, "\n") {
		r.t.Errorf("got\n%s\nwanted\n%s", got, strings.Join(want, "\n"))
	}
}

// settled checks that every byte of the client is in a step.
func (r *rig) settled() {
	r.t.Helper()
	if r.taken != r.fed || r.c.waiting != 0 || r.c.held != 0 {
		r.t.Errorf("steps took %d bytes of %d; %d streams hold %d bytes", r.taken, r.fed,
			r.c.waiting, r.c.held)
	}
}

func isLost(err error) bool { return errors.Is(err, proto.ErrLost) }
