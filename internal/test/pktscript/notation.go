package pktscript

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
)

// A packet in a script: flags, first:end(length), then what it has.
var packetForm = regexp.MustCompile(`^([SFRP.UEW]+) (-?\d+):(-?\d+)\((\d+)\)` +
	`(?: ack (-?\d+))?(?: win (\d+))?(?: urg (\d+))?(?: <(.*)>)?$`)

// expected is a packet that must be sent, with what its line names.
type expected struct {
	seg              packet.Segment
	win, opts, hasTS bool
}

// fields reads the notation into a segment whose numbers are as written.
func (r *runner) fields(text string) (s packet.Segment, hasWin, hasOpts bool) {
	m := packetForm.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		r.failf("want a packet like \"P. 1:1001(1000) ack 1 win 500 <mss 1460>\", not %q", text)
	}
	for _, ch := range m[1] {
		s.Flags |= 1 << strings.IndexRune("FSRP.UEW", ch)
	}
	first, end := r.number(m[2]), r.number(m[3])
	s.Seq, s.Len = seqnum.Value(uint32(first)), r.number(m[4])
	if end-first != s.Len {
		r.failf("%s:%s is not %s bytes", m[2], m[3], m[4])
	}
	if m[5] != "" {
		s.Ack = seqnum.Value(uint32(r.number(m[5])))
	}
	if m[6] != "" {
		s.Window = uint16(r.number(m[6]))
	}
	if m[7] != "" {
		s.Urgent = uint16(r.number(m[7]))
	}
	hasOpts = strings.HasSuffix(text, ">")
	if hasOpts {
		s.Opts, _ = r.options(m[8])
	}
	return s, m[6] != "", hasOpts
}

// options reads a list of options; numbers stay as written.
func (r *runner) options(text string) (o packet.Options, has bool) {
	text = strings.Trim(text, "<>")
	if text == "" || text == "none" {
		return o, false
	}
	for _, item := range strings.Split(text, ",") {
		f := strings.Fields(item)
		bad := func() { r.failf("unknown option %q", item) }
		switch {
		case len(f) == 0, f[0] == "nop", f[0] == "eol":
		case f[0] == "mss" && len(f) == 2:
			o.MSS = uint16(r.number(f[1]))
		case f[0] == "sackOK":
			o.SACKPermitted = true
		case f[0] == "wscale" && len(f) == 2:
			o.WScale, o.HasWScale = uint8(r.number(f[1])), true
		case f[0] == "TS" && len(f) == 5 && f[1] == "val" && f[3] == "ecr":
			o.HasTS = true
			o.TSVal, o.TSEcr = uint32(r.number(f[2])), uint32(r.number(f[4]))
		case f[0] == "sack" && len(f) <= 1+packet.MaxSACKBlocks:
			for _, b := range f[1:] {
				first, end, ok := strings.Cut(b, ":")
				if !ok {
					bad()
				}
				o.SACK[o.NSACK] = packet.SACKBlock{
					First: seqnum.Value(uint32(r.number(first))),
					End:   seqnum.Value(uint32(r.number(end))),
				}
				o.NSACK++
			}
		default:
			bad()
		}
	}
	return o, true
}

// parse reads a packet of the target's.
func (r *runner) parse(text string) packet.Segment {
	s, hasWin, _ := r.fields(text)
	s.Src, s.Dst = r.cfg.Remote, r.cfg.Local
	s.Seq += r.irs
	if s.Flags.Has(packet.ACK) {
		s.Ack += r.cfg.ISN
	}
	if !hasWin {
		s.Window = 65535
	}
	if s.Opts.HasTS {
		s.Opts.TSVal += tsOffset
		s.Opts.TSEcr += r.cfg.TSBase
	}
	for i := range s.Opts.SACKBlocks() {
		s.Opts.SACK[i].First += r.cfg.ISN
		s.Opts.SACK[i].End += r.cfg.ISN
	}
	return s
}

// parseExpected reads a packet of ours.
func (r *runner) parseExpected(text string) (e expected) {
	e.seg, e.win, e.opts = r.fields(text)
	e.hasTS = e.seg.Opts.HasTS
	return e
}

// differs says in what got is not what was expected, or nothing.
func (e *expected) differs(r *runner, got *packet.Segment) string {
	want := &e.seg
	seq, ack := got.Seq-r.cfg.ISN, got.Ack-r.irs
	switch {
	case got.Src != r.cfg.Local || got.Dst != r.cfg.Remote:
		return fmt.Sprintf("addresses %v > %v", got.Src, got.Dst)
	case got.Flags != want.Flags:
		return fmt.Sprintf("flags %v, expected %v", got.Flags, want.Flags)
	case seq != want.Seq || got.Len != want.Len:
		return fmt.Sprintf("bytes %d:%d, expected %d:%d", seq, seq.Add(got.Len), want.Seq,
			want.Seq.Add(want.Len))
	case got.Flags.Has(packet.ACK) && ack != want.Ack:
		return fmt.Sprintf("ack %d, expected %d", ack, want.Ack)
	case e.win && got.Window != want.Window:
		return fmt.Sprintf("window %d, expected %d", got.Window, want.Window)
	case got.Urgent != want.Urgent:
		return fmt.Sprintf("urgent pointer %d, expected %d", got.Urgent, want.Urgent)
	}
	o := got.Opts
	if o.NSACK != want.Opts.NSACK {
		return strconv.Itoa(int(o.NSACK)) + " SACK blocks"
	}
	for i, b := range o.SACKBlocks() {
		if w := want.Opts.SACK[i]; b.First-r.irs != w.First || b.End-r.irs != w.End {
			return fmt.Sprintf("SACK block %d is %d:%d", i+1, b.First-r.irs, b.End-r.irs)
		}
	}
	if !e.opts {
		return ""
	}
	switch w := want.Opts; {
	case o.MSS != w.MSS, o.HasWScale != w.HasWScale, o.WScale != w.WScale,
		o.SACKPermitted != w.SACKPermitted:
		return "other options"
	case e.hasTS != o.HasTS && strings.Contains(r.text, "TS"):
		return "no timestamp"
	case e.hasTS && o.TSVal-r.cfg.TSBase != w.TSVal:
		return fmt.Sprintf("TS val %d, expected %d", o.TSVal-r.cfg.TSBase, w.TSVal)
	case e.hasTS && o.TSEcr != 0 && o.TSEcr-tsOffset != w.TSEcr, e.hasTS && o.TSEcr == 0 &&
		w.TSEcr != 0:
		return fmt.Sprintf("TS ecr %d, expected %d", o.TSEcr-tsOffset, w.TSEcr)
	}
	if strings.Contains(r.text, "<none>") && o != (packet.Options{}) {
		return "options, expected none"
	}
	return ""
}
