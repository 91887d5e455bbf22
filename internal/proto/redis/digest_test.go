package redis

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/content"
)

const digestSeed = 7

// digests reads a server's bytes, in pieces of n, and returns the replies and their digests.
func digests(t *testing.T, text string, n int) (all []*proto.Digest, lost bool) {
	t.Helper()
	w := proto.NewDigesting(digestSeed, 1<<24)
	f := proto.Follow(NewAnswers())
	f.Digest(comparison.NewDigester(w))
	var out []proto.Told
	var scratch []proto.Answer
	for len(text) > 0 {
		k := min(n, len(text))
		out = f.Feed(0, []byte(text[:k]), out, &scratch)
		text = text[k:]
	}
	lost = f.Lost()
	f.Close(0, nil, &scratch)
	for _, o := range out {
		if o.Digest == nil {
			t.Fatal("a reply without a digest")
		}
		o.Digest.Unpack(w)
		all = append(all, o.Digest)
	}
	if w.Room != 1<<24 {
		t.Errorf("%d bytes of room are lost", 1<<24-w.Room)
	}
	return all, lost
}

func TestDigests(t *testing.T) {
	for _, c := range []struct {
		text string
		want string // paths, types and counts
	}{
		{"+OK\r\n", "reply 8 1"},
		{":1\r\n", "reply 4 1"},
		{"$2\r\nab\r\n", "reply 8 1"},
		{"$-1\r\n", "reply 1 1"},
		{"*-1\r\n", "reply 1 1"},
		{"_\r\n", "reply 1 1"},
		{"-WRONGTYPE Operation on s3cr3t\r\n", "error 8 1"},
		{"!7\r\nERR bad\r\n", "error 8 1"},
		{"*1\r\n-ERR x\r\n", "reply 16 1, reply[].error 8 1"},
		{"*2\r\n:1\r\n*1\r\n+a\r\n", "reply 16 1, reply[] 20 2, reply[][] 8 1"},
		{"%1\r\n+mode\r\n~1\r\n#t\r\n", "reply 32 1, reply.mode 16 1, reply.mode[] 2 1"},
		{"%1\r\n$8\r\nuser:100\r\n,1.5\r\n", "reply 32 1, reply.{id} 4 1"},
		{">2\r\n+message\r\n+a\r\n+OK\r\n", "reply 8 1"},
		{"|1\r\n+ttl\r\n:9\r\n*1\r\n|1\r\n+x\r\n:1\r\n:7\r\n", "reply 16 1, reply[] 4 1"},
	} {
		for n := 1; n <= len(c.text); n++ {
			got, _ := digests(t, c.text, n)
			if len(got) != 1 || got[0].Skipped != proto.Compared {
				t.Fatalf("%q in pieces of %d: %+v", c.text, n, got)
			}
			var fields []string
			for _, f := range got[0].Fields {
				fields = append(fields, fmt.Sprintf("%s %d %d", f.Path, f.Types, f.Count))
			}
			if s := strings.Join(fields, ", "); s != c.want {
				t.Errorf("%q in pieces of %d: %s, want %s", c.text, n, s, c.want)
			}
		}
	}
}

func TestLabels(t *testing.T) {
	for text, want := range map[string]string{
		"*2\r\n$3\r\nget\r\n$6\r\ns3cr3t\r\n": "GET", "PING\r\n": "PING", "set a b\r\n": "SET",
		"\r\nping\r\n": "PING", "*1\r\n$8\r\nJSON.GET\r\n": "JSON.GET",
		"*1\r\n$3\r\n\x1b[1\r\n": "another command", "*1\r\n$0\r\n\r\n": "another command",
	} {
		l := comparison.NewLabeller(proto.NewDigesting(digestSeed, 1<<20))
		for range 2 {
			for i := range len(text) {
				l.Write([]byte{text[i]})
			}
			if got, _ := l.End(); got != want {
				t.Errorf("%q is %q, want %q", text, got, want)
			}
		}
	}
}

// A reply that is too large has no content; the next one has.
func TestLargeReplies(t *testing.T) {
	big := fmt.Sprintf("$%d\r\n%s\r\n", content.MaxWhole, strings.Repeat("x", content.MaxWhole))
	got, _ := digests(t, big+"+OK\r\n", 1000)
	if len(got) != 2 || got[0].Skipped != proto.Oversize || len(got[0].Fields) != 0 ||
		got[1].Skipped != proto.Compared {
		t.Errorf("%+v", got)
	}
}

// Whatever comes, in whatever pieces, a reply that is read has the same digest, and its content.
func FuzzDigest(f *testing.F) {
	for _, s := range []string{
		"*2\r\n:1\r\n$1\r\na\r\n", "%1\r\n+a\r\n:1\r\n", ">1\r\n+a\r\n+OK\r\n",
		"|1\r\n+a\r\n:1\r\n+b\r\n", "-ERR\r\n", "*1048576\r\n",
	} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, p []byte, n int) {
		n = max(1, n%1000)
		a, _ := digests(t, string(p), n)
		b, _ := digests(t, string(p), 1<<20)
		if d := cmp.Diff(b, a); d != "" {
			t.Errorf("in pieces of %d: (-whole +got)\n%s", n, d)
		}
	})
}
