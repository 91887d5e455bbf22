package mysql

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"tcpcopy/internal/proto"
)

// rig drives a Client as a session does: it feeds the client's bytes, again if the Client holds,
// and collects what goes to the target.
type rig struct {
	client *Client
	record []byte // the client's bytes
	fed    int    // of them
	taken  int    // of them, by steps
	to     []byte // the target
	log    []string
	out    proto.Out
	err    error
}

func newRig(o Settings, under bool) *rig {
	o.Random = rand.Reader
	r := &rig{client: NewClient(&o)}
	r.err = r.client.Begin(under, &r.out)
	return r
}

// say feeds bytes of the client, which had seen that many bytes of production's server.
func (r *rig) say(seen uint64, p []byte) {
	r.record = append(r.record, p...)
	r.hand(seen)
}

func (r *rig) hand(seen uint64) {
	for r.err == nil && r.fed < len(r.record) && !r.client.Holds() {
		r.out.Reset()
		p := append([]byte(nil), r.record[r.fed:]...)
		r.err = r.client.Feed(p, seen, &r.out)
		for i := range p {
			p[i] = 0xee // it is not to be kept
		}
		r.fed = len(r.record)
		r.carryOut()
		if r.client.Holds() {
			r.fed = r.taken
		}
	}
}

// hear passes bytes of the target.
func (r *rig) hear(seen uint64, p []byte) {
	if r.err != nil {
		return
	}
	r.out.Reset()
	r.err = r.client.Kept(p, &r.out)
	r.carryOut()
	r.hand(seen)
}

func (r *rig) carryOut() {
	for _, s := range r.out.Steps {
		switch s.Kind {
		case proto.PassOn:
			r.to = append(r.to, r.record[r.taken:r.taken+s.N]...)
		case proto.Say:
			r.to = append(r.to, r.out.Text[s.From:s.To]...)
		case proto.LeaveOut:
			r.logf("left %s", s.Reason)
		case proto.Requested:
			r.logf("%#x hint %#x reply %d at %d", s.Request.Class, uint8(s.Request.Hint),
				s.Request.Reply, len(r.to))
		case proto.Refused:
			r.logf("refused %s", s.Reason)
		}
		r.taken += s.N
	}
}

func (r *rig) logf(f string, args ...any) {
	if line := fmt.Sprintf(f, args...); len(r.log) == 0 || r.log[len(r.log)-1] != line ||
		strings.HasPrefix(line, "0x") {
		r.log = append(r.log, line)
	}
}

// packet returns a packet with a payload of these parts.
func packet(seq uint8, parts ...any) []byte {
	var p []byte
	for _, part := range parts {
		switch v := part.(type) {
		case int:
			p = append(p, byte(v))
		case string:
			p = append(p, v...)
		case []byte:
			p = append(p, v...)
		case uint32:
			p = binary.LittleEndian.AppendUint32(p, v)
		case uint16:
			p = binary.LittleEndian.AppendUint16(p, v)
		default:
			panic(fmt.Sprintf("%T", part))
		}
	}
	return appendPacket(nil, seq, p)
}

func join(packets ...[]byte) (all []byte) {
	for _, p := range packets {
		all = append(all, p...)
	}
	return all
}

const (
	mysqlCaps = followed | capConnectWithDB | capProtocol41 | capSecure | capPluginAuth |
		capLenencAuth | capDeprecateEOF
	mariadbCaps = mysqlCaps &^ capLongPassword &^ capAttributes
)

// salt is a challenge.
const salt = "abcdefghijklmnopqrst"

func hail(version string, caps, ext uint32, plugin string) []byte {
	return packet(0, 10, version, 0, uint32(7), salt[:8], 0, uint16(caps), 45, uint16(2),
		uint16(caps>>16), 21,
		"\x00\x00\x00\x00\x00\x00", ext, salt[8:], 0, plugin, 0)
}

// answerOf returns a client's handshake response.
func answerOf(caps, ext uint32, user, db string) []byte {
	parts := []any{caps, uint32(1 << 24), 33, string(make([]byte, 19)), ext, user, 0, 20,
		strings.Repeat("x", 20)}
	if caps&capConnectWithDB != 0 {
		parts = append(parts, db, 0)
	}
	if caps&capPluginAuth != 0 {
		parts = append(parts, nativePlugin, 0)
	}
	if caps&capConnectAttrs != 0 {
		parts = append(parts, 8, 3, "_os", 3, "BSD")
	}
	return packet(1, parts...)
}

var (
	okay    = func(seq uint8) []byte { return packet(seq, 0, 0, 0, uint16(2), uint16(0)) }
	denied  = packet(2, 0xff, uint16(1045), "#28000Access denied")
	oneUser = Settings{Logins: []Login{{User: "app", Password: "secret", DB: "shop"}}}
)

// loggedIn returns a rig whose copy has logged in.
func loggedIn(t *testing.T, o Settings, clientCaps, targetCaps uint32) *rig {
	t.Helper()
	r := newRig(o, false)
	production := hail("8.0.36", mysqlCaps, 0, nativePlugin)
	r.client.Server(0, production[:48])
	r.say(uint64(len(production)), answerOf(clientCaps, 0, "app", "orders"))
	r.hear(0, hail("8.0.36", targetCaps, 0, nativePlugin))
	r.hear(0, okay(2))
	if r.err != nil || r.client.Holds() {
		t.Fatalf("login: %v, holds %v", r.err, r.client.Holds())
	}
	r.to, r.log = nil, nil
	return r
}
