package agent

import (
	"testing"

	"pgregory.net/rapid"

	"tcpcopy/internal/core/packet"
)

func TestShedder(t *testing.T) {
	type step struct {
		name   string
		server bool
		flags  packet.Flags
		size   int
		want   fate
		fresh  bool
	}
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"a session that is left out from its beginning is never heard of", []step{
			{"SYN", false, packet.SYN, 0, dropped, true},
			{"SYN again", false, packet.SYN, 0, dropped, false},
			{"SYN-ACK", true, packet.SYN | packet.ACK, 0, dropped, false},
			{"request", false, packet.ACK, 10, dropped, false},
			{"answer", true, packet.ACK, 100, dropped, false},
			{"FIN", false, packet.FIN | packet.ACK, 0, dropped, false},
		}},
		{"one that is left out from somewhere on goes on with a gap, and ends", []step{
			{"an acknowledgment", false, packet.ACK, 0, dropped, false},
			{"answer", true, packet.ACK, 100, dropped, false},
			{"request", false, packet.ACK, 10, headers, true},
			{"another", false, packet.ACK, 10, dropped, false},
			{"answer", true, packet.ACK, 100, dropped, false},
			{"FIN", false, packet.FIN | packet.ACK, 0, headers, false},
			{"the server's FIN", true, packet.FIN | packet.ACK, 0, headers, false},
		}},
		{"the next from the same port is another", []step{
			{"request", false, packet.ACK, 10, headers, true},
			{"RST", false, packet.RST, 0, headers, false},
			{"SYN", false, packet.SYN, 0, dropped, true},
			{"request", false, packet.ACK, 10, dropped, false},
			{"RST", false, packet.RST, 0, dropped, false},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var s shedder
			for _, st := range tc.steps {
				got, fresh := s.decide(0xabcdef, st.server,
					&packet.Segment{Flags: st.flags, Len: st.size})
				if got != st.want || fresh != st.fresh {
					t.Fatalf("%s: %v, fresh %v; want %v, %v", st.name, got, fresh, st.want,
						st.fresh)
				}
			}
		})
	}
}

// TestShedderSendsNoPayload: of a session that is left out no payload is sent, and the copier
// learns that a session that it knows is left out.
func TestShedderSendsNoPayload(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s shedder
		told := map[uint32]bool{}
		for range rapid.IntRange(1, 50).Draw(t, "packets") {
			hash := rapid.SampledFrom([]uint32{0, 1, 2, 3, shedSlots, shedSlots + 2}).Draw(t,
				"hash")
			seg := packet.Segment{Flags: packet.ACK, Len: rapid.IntRange(0, 2).Draw(t, "size")}
			server := rapid.Bool().Draw(t, "server")
			f, fresh := s.decide(hash, server, &seg)
			if f == whole {
				t.Fatal("a packet of a session that is left out is sent whole")
			}
			if data := !server && seg.Len > 0; data && !told[hash] && f != headers {
				t.Fatalf("the first request of %d that is left out is not told of", hash)
			} else if fresh && !data {
				t.Fatal("a session is counted for a packet that says nothing")
			}
			if f == headers {
				for h := range told { // another has its place
					if h&(shedSlots-1) == hash&(shedSlots-1) {
						delete(told, h)
					}
				}
				told[hash] = true
			}
		}
	})
}
