package packet

import (
	"strconv"

	"tcpcopy/internal/core/seqnum"
)

// flagLetters are tcpdump's letters for the flags, in the order of the bits.
const flagLetters = "FSRP.UEW"

// String returns the flags as tcpdump prints them: "S." is SYN and ACK, "none" no flag.
func (f Flags) String() string {
	if f == 0 {
		return "none"
	}
	b := make([]byte, 0, len(flagLetters))
	for i := range len(flagLetters) {
		if f&(1<<i) != 0 {
			b = append(b, flagLetters[i])
		}
	}
	return string(b)
}

// String returns the segment in one line, as tcpdump and packetdrill print it:
//
//	10.0.0.1:1234 > 10.0.0.2:80: S. 1:1(0) ack 2 win 65535 <mss 1460,sackOK,nop,wscale 7>
func (s *Segment) String() string {
	b := s.Src.AppendTo(nil)
	b = append(b, " > "...)
	b = s.Dst.AppendTo(b)
	b = append(b, ": "...)
	return string(s.appendNotation(b, 0, 0))
}

// Relative returns the segment as String does, but without addresses, and with sequence numbers
// relative to seqBase and acknowledgment numbers (with SACK blocks) relative to ackBase.
func (s *Segment) Relative(seqBase, ackBase seqnum.Value) string {
	return string(s.appendNotation(nil, seqBase, ackBase))
}

// appendNotation appends what Relative returns.
func (s *Segment) appendNotation(b []byte, seqBase, ackBase seqnum.Value) []byte {
	num := func(v seqnum.Value) { b = strconv.AppendUint(b, uint64(v), 10) }
	str := func(v string) { b = append(b, v...) }

	str(s.Flags.String())
	str(" ")
	num(s.Seq - seqBase)
	str(":")
	num(s.Seq.Add(s.Len) - seqBase)
	str("(")
	b = strconv.AppendInt(b, int64(s.Len), 10)
	str(")")
	if s.Flags.Has(ACK) {
		str(" ack ")
		num(s.Ack - ackBase)
	}
	str(" win ")
	num(seqnum.Value(s.Window))
	if s.Flags.Has(URG) {
		str(" urg ")
		num(seqnum.Value(s.Urgent))
	}

	sep := " <"
	next := func(v string) { str(sep); str(v); sep = "," }
	o := &s.Opts
	if o.MSS != 0 {
		next("mss ")
		num(seqnum.Value(o.MSS))
	}
	if o.SACKPermitted {
		next("sackOK")
	}
	if o.HasTS {
		next("TS val ")
		num(seqnum.Value(o.TSVal))
		str(" ecr ")
		num(seqnum.Value(o.TSEcr))
	}
	if o.HasWScale {
		next("nop,wscale ")
		num(seqnum.Value(o.WScale))
	}
	if o.NSACK > 0 {
		next("sack")
		for _, blk := range o.SACKBlocks() {
			str(" ")
			num(blk.First - ackBase)
			str(":")
			num(blk.End - ackBase)
		}
	}
	if sep == "," {
		str(">")
	}
	return b
}
