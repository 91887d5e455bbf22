package mysql

import (
	"bytes"
	"testing"

	"tcpcopy/internal/proto"
)

// What a reader finds does not depend on how its input is split, and is within what has come.
func FuzzAnswers(f *testing.F) {
	for _, c := range answersTable {
		f.Add(join(c.bytes...), uint8(3), 7)
	}
	f.Fuzz(func(t *testing.T, p []byte, hint uint8, cut int) {
		if cut < 0 || cut > len(p) {
			return
		}
		read := func(parts ...[]byte) (found []proto.Answer, lost bool) {
			a, err := afterLogin(hint&0x40 != 0)
			if err != nil {
				t.Fatal(err)
			}
			a.Expect(1, proto.Hint(hint&^0x40))
			a.Expect(2, hintPrepare)
			a.Expect(3, hintList)
			for _, p := range parts {
				for len(p) > 0 && err == nil {
					if n := min(a.Blind(), uint64(len(p))); n > 0 {
						found = a.Skip(n, found)
						p = p[n:]
						continue
					}
					found, err = a.Feed(p[:1], found)
					p = p[1:]
				}
			}
			return found, err != nil
		}
		inOne := func() (found []proto.Answer, lost bool) {
			a, _ := afterLogin(hint&0x40 != 0)
			a.Expect(1, proto.Hint(hint&^0x40))
			a.Expect(2, hintPrepare)
			a.Expect(3, hintList)
			found, err := a.Feed(p, nil)
			return found, err != nil
		}
		whole, lost := inOne()
		split, lostSplit := read(p[:cut], p[cut:])
		if lost != lostSplit || len(whole) != len(split) {
			t.Fatalf("%v, %v; in pieces %v, %v", whole, lost, split, lostSplit)
		}
		base := uint64(len(hail("8.0.36", mysqlCaps, 0, nativePlugin)) + len(okay(2)))
		for i, a := range whole {
			if a != split[i] || a.End > base+uint64(len(p)) || a.Size > a.End {
				t.Fatalf("%+v; in pieces %+v", a, split[i])
			}
		}
	})
}

func FuzzLogin(f *testing.F) {
	f.Add(join(hail("8.0.36", mysqlCaps, 0, sha2Plugin), packet(2, 1, 4), okay(4)),
		answerOf(mysqlCaps, 0, "app", "x"), 5)
	f.Add(join(hail("11", mariadbCaps, 9, nativePlugin), packet(2, 0xfe, ed25519Plugin, 0, salt)),
		answerOf(mariadbCaps, 9, "app", "x"), 50)
	f.Add(packet(0, 0xff, uint16(1040)), packet(1, uint32(capSSL|capProtocol41),
		string(make([]byte, 28))), 1)
	f.Fuzz(func(t *testing.T, target, client []byte, cut int) {
		if cut < 0 || cut > len(client) {
			return
		}
		run := func(parts ...int) *rig {
			r := newRig(oneUser, false)
			from := 0
			for _, to := range append(parts, len(client)) {
				r.say(100, client[from:to])
				from = to
			}
			for i := range target {
				r.hear(100, target[i:i+1])
			}
			return r
		}
		one, two := run(), run(cut)
		if one.told() != two.told() || !bytes.Equal(one.to, two.to) ||
			one.taken > len(one.record) {
			t.Fatalf("%q %s\nin pieces\n%q %s", one.to, one.told(), two.to, two.told())
		}
	})
}

// The client's bytes, and the target's answers to prepares.
func FuzzClient(f *testing.F) {
	for _, c := range commandTable {
		f.Add(c.say, []byte{}, uint8(0), 3)
	}
	prepare := packet(0, comPrepare, "SELECT ?")
	f.Add(join(prepare, packet(0, comExecute, uint32(1), 0, uint32(1), "x")),
		join(prepared(1, 3, 0, 1), column(2)), uint8(1), 20)
	f.Add(join(packet(3, "xyz"), prepare, prepare, packet(0, comClose, uint32(2))),
		join(prepared(1, 3, 0, 0), errorPacket(1, 1064)), uint8(2), 20)
	f.Add(packet(0, comChangeUser, "app", 0, 0, "db", 0, uint16(45)),
		join(packet(1, 0xfe, nativePlugin, 0, salt), okay(3)), uint8(3), 9)
	f.Fuzz(func(t *testing.T, client, target []byte, how uint8, cut int) {
		if cut < 0 || cut > len(client) {
			return
		}
		caps := uint32(mysqlCaps)
		if how&1 != 0 {
			caps &^= capAttributes
		}
		if how&2 != 0 {
			caps &^= capDeprecateEOF
		}
		o := oneUser
		o.ReadOnly = how&4 != 0
		run := func(parts ...int) *rig {
			r := loggedIn(t, o, mysqlCaps, caps)
			from := 0
			for _, to := range append(parts, len(client)) {
				r.say(100, client[from:to])
				from = to
			}
			r.hear(100, target)
			return r
		}
		one, two := run(), run(cut)
		if one.told() != two.told() || !bytes.Equal(one.to, two.to) ||
			one.taken > len(one.record) {
			t.Fatalf("%q %s\nin pieces\n%q %s", one.to, one.told(), two.to, two.told())
		}
		if one.err == nil && !one.client.Holds() && len(one.record)-one.taken > 2*loginMost {
			t.Fatalf("%d bytes are undecided", len(one.record)-one.taken)
		}
	})
}
