package packet

import "testing"

// FuzzDecode checks that any input is decoded within its bounds, and that a decoded segment can be
// encoded and decoded again.
func FuzzDecode(f *testing.F) {
	f.Add(Append(nil, timestamped(false, 10)), 0)
	f.Add(Append(nil, timestamped(true, 10)), 1000)
	syn := timestamped(false, 0)
	syn.Flags, syn.Opts = SYN, Options{MSS: 1460, SACKPermitted: true, HasTS: true, HasWScale: true,
		WScale: 7}
	f.Add(Append(nil, syn), 0)
	f.Add(unhex(f, "60000000 0000 00 40"+v6addrs+"0600c204 00020000"+ports+
		"00000001 00000002 5018 ffff 0000 0000"), 100000)
	f.Fuzz(func(t *testing.T, b []byte, more int) {
		if more < 0 || more > 1<<30 {
			more = 0
		}
		ChecksumOK(b)
		var s Segment
		if Decode(b, len(b)+more, &s) != nil {
			return
		}
		if s.Len < len(s.Payload) || s.Len > len(b)+more || len(s.Payload) > len(b) ||
			int(s.Opts.NSACK) > MaxSACKBlocks {
			t.Fatalf("out of bounds: %v, %d bytes captured of %d", &s, len(s.Payload), len(b)+more)
		}
		_ = s.String()
		s.Len = len(s.Payload)
		p := Append(nil, &s)
		if len(p) != HeaderLen(&s)+len(s.Payload) {
			t.Fatalf("HeaderLen %d, payload %d, packet %d", HeaderLen(&s), len(s.Payload), len(p))
		}
		if !ChecksumOK(p) {
			t.Fatalf("checksum of %x", p)
		}
		var again Segment
		if err := Decode(p, len(p), &again); err != nil {
			t.Fatalf("own packet: %v", err)
		}
		// Options of b may not fit in an encoded packet, if b repeats some.
		_, fit := optionsLen(&s.Opts)
		s.Opts.NSACK = uint8(fit)
		for i := fit; i < MaxSACKBlocks; i++ {
			s.Opts.SACK[i] = SACKBlock{}
		}
		if s.TTL == 0 {
			s.TTL = defaultTTL
		}
		requireSame(t, &again, &s)
	})
}

func FuzzDecodeICMP(f *testing.F) {
	f.Add(unhex(f, "45000038 00000000 4001 0000 0a0000fe 0a000001 0304 0000 0000 0578"+
		"450005dc 00004000 4006 0000"+v4addrs+ports+"00000064"))
	f.Add(unhex(f, "60000000 0040 3a 40"+v6addrs+"0200 0000 00000500"+
		"60000000 0514 06 40"+v6addrs+ports+"00000064"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeICMP(b)
		if err == nil && (e.Kind == 0 || e.MTU < 0 || !e.Src.IsValid() || !e.Dst.IsValid() ||
			!e.From.IsValid()) {
			t.Fatalf("%+v", e)
		}
	})
}
