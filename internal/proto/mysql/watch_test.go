package mysql

import (
	"fmt"
	"strings"
	"testing"

	"tcpcopy/internal/proto"
)

// TestWatcher: requests of production's client end where they end, however the bytes are split.
func TestWatcher(t *testing.T) {
	login := answerOf(mysqlCaps, 0, "app", "orders")
	big := join(appendPacket(nil, 0, append([]byte{comQuery}, make([]byte, maxPayload-1)...)),
		packet(1, "and the rest"))
	for _, c := range []struct {
		name  string
		bytes []byte
		want  string // class, hint and end of each request
	}{
		{"a login", login, fmt.Sprintf("0xb 132 %d", len(login))},
		{"a login of an old client", answerOf(mysqlCaps&^capDeprecateEOF, 0, "app", "orders"),
			fmt.Sprintf("0xb 133 %d", len(login))},
		{"a dialogue", join(login, packet(3, "password"), query("SELECT 1")),
			fmt.Sprintf("0xb 132 %d, 0x3 0 %d", len(login), len(login)+12+13)},
		{"a prepare, and what has no answer", join(login, packet(0, comPrepare, "SELECT ?"),
			packet(0, comClose, uint32(1)), packet(0, comPing)),
			fmt.Sprintf("0xb 132 %d, 0x16 131 %[2]d, 0x19 0 %[3]d none, 0xe 0 %[4]d", len(login),
				len(login)+13, len(login)+22, len(login)+27)},
		{"a change of the user, with a dialogue", join(login, packet(0, comChangeUser, "app"),
			packet(3, "password"), packet(0, comPing)),
			fmt.Sprintf("0xb 132 %d, 0x11 132 %d, 0xe 0 %d", len(login), len(login)+8,
				len(login)+25)},
		{"TLS", packet(1, uint32(mysqlCaps|capSSL), uint32(1<<24), 33, string(make([]byte, 23))),
			"lost"},
		{"no login", query("SELECT 1"), "lost"},
		{"an unknown command", join(login, packet(0, 0x7f)),
			fmt.Sprintf("0xb 132 %d, lost", len(login))},
		{"a packet out of order", join(login, query("SELECT 1"), packet(5, "x")),
			fmt.Sprintf("0xb 132 %d, 0x3 0 %d, lost", len(login), len(login)+13)},
		{"a command of two packets", join(login, big),
			fmt.Sprintf("0xb 132 %d, 0x3 0 %d", len(login), len(login)+len(big))},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, n := range []int{1, 3, len(c.bytes)} {
				if n < 100 && len(c.bytes) > 1<<20 {
					continue
				}
				if got := watched(c.bytes, n); got != c.want {
					t.Errorf("in pieces of %d: %q, wanted %q", n, got, c.want)
				}
			}
		})
	}
	if err := new(watcher).Begin(true, nil); err == nil {
		t.Error("it reads a connection found under way")
	}
}

// watched feeds a watcher pieces of n bytes, and returns the requests that it finds.
func watched(p []byte, n int) string {
	var w watcher
	var out proto.Out
	_ = w.Begin(false, &out)
	var all []string
	for at := 0; len(p) > 0; {
		out.Reset()
		k := min(n, len(p))
		err := w.Feed(p[:k], 0, &out)
		p = p[k:]
		for _, st := range out.Steps {
			at += st.N
			if st.Kind == proto.Requested {
				one := fmt.Sprintf("%#x %d %d", st.Request.Class, st.Request.Hint, at)
				if st.Request.Reply == proto.Nothing {
					one += " none"
				}
				all = append(all, one)
			}
		}
		if err != nil {
			all = append(all, "lost")
			break
		}
	}
	return strings.Join(all, ", ")
}
