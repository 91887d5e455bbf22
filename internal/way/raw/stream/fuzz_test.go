package stream

import (
	"testing"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/test/rig"
)

// FuzzRaw drives a shard and a table with any packets, any segments of the target, and any answers
// of the intercepts.
func FuzzRaw(f *testing.F) {
	f.Add([]byte{1, 0, 0, 2, 0, 0, 0, 1, 0, 0, 1, 16, 0, 0, 20, 1, 4, 0, 0, 18, 0, 1, 0, 1, 4, 0,
		0, 16, 0, 0, 5, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		p := &port{Table: New(rawConfig())}
		p.SetLink(true, 7)
		var isn seqnum.Value // of the last SYN that was sent
		rig.Fuzz(t, script, func(*rig.Input, func() *shard.Shard) *rig.FuzzWay {
			return &rig.FuzzWay{
				Port: p, Segments: true, Happen: p.happen,
				Sent: func() seqnum.Value {
					for _, s := range p.Output() {
						if len(s.Payload) != s.Len {
							t.Fatalf("%d bytes in a segment of %d", len(s.Payload), s.Len)
						}
						if s.Flags.Has(packet.SYN) {
							isn = s.Seq
						}
					}
					return isn
				},
				Events: func([]session.Event) []session.Event { return nil },
			}
		})
		if n := len(p.streams); n != 0 {
			t.Errorf("%d streams are left", n)
		}
	})
}

// happen changes the link, or has the intercepts answer.
func (p *port) happen(in *rig.Input, what, how byte) {
	if what == 0 {
		p.SetLink(how&1 != 0, 3)
		return
	}
	in.Unowned = append(in.Unowned, p.Queries()...)
	for _, s := range p.Seeks() {
		if how&1 != 0 {
			p.Taken(p.now, s.Tuple)
		} else {
			in.Free = append(in.Free, s.Tuple)
		}
	}
}
