package lab

import (
	"bytes"
	"hash/crc32"
	"io"
	"net"
	"testing"
	"time"
)

func TestHeadersSurvive(t *testing.T) {
	q := request{conn: 1, num: 2, seen: 3, length: 4, answer: 500, flags: flagGreeted, sum: 7}
	var head [requestHeader]byte
	q.put(head[:])
	var got request
	if !got.parse(head[:]) || got != q {
		t.Errorf("request %+v became %+v", q, got)
	}
	a := answer{conn: 1, num: greetingNumber, length: 3, sum: 4}
	var reply [answerHeader]byte
	a.put(reply[:])
	var back answer
	if !back.parse(reply[:]) || back != a {
		t.Errorf("answer %+v became %+v", a, back)
	}
}

func TestEveryFlippedBitOfAHeaderIsSeen(t *testing.T) {
	var head [requestHeader]byte
	(&request{conn: 9, num: 8, length: 100, answer: 200}).put(head[:])
	for bit := range 8 * len(head) {
		b := head
		b[bit/8] ^= 1 << (bit % 8)
		if new(request).parse(b[:]) {
			t.Errorf("bit %d", bit)
		}
	}
	var reply [answerHeader]byte
	(&answer{conn: 9, num: 8, length: 100}).put(reply[:])
	for bit := range 8 * len(reply) {
		b := reply
		b[bit/8] ^= 1 << (bit % 8)
		if new(answer).parse(b[:]) {
			t.Errorf("bit %d of an answer", bit)
		}
	}
}

func TestPayloadsDiffer(t *testing.T) {
	if bytes.Equal(payload(1, 1, 100), payload(1, 2, 100)) || bytes.Equal(payload(1, 1, 100),
		payload(2, 1, 100)) {
		t.Error("payloads of different requests are equal")
	}
	for _, n := range []int{0, 1, maxPayload, maxPayload * scaleMost} {
		if got := len(payload(1<<32-1, 1<<32-1, n)); got != n {
			t.Errorf("a payload of %d bytes has %d", n, got)
		}
	}
}

// FuzzServer sends anything to a server: it must neither panic nor hang nor count what is unsound.
func FuzzServer(f *testing.F) {
	body := payload(1, 0, 50)
	sound := make([]byte, requestHeader, requestHeader+len(body))
	(&request{conn: 1, length: 50, answer: 100, sum: crc32.Checksum(body, castagnoli)}).put(sound)
	sound = append(sound, body...)
	f.Add(sound)
	f.Add(append(bytes.Clone(sound), sound...))
	f.Add(sound[:20])
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := serve(l, serverConfig{}, newClock())
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		c.Write(data)
		c.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, c); err != nil && s.record.corrupted.Load() == 0 {
			t.Error(err)
		}
		s.close()
		sound, bad := s.record.requests.Load(), s.record.corrupted.Load()
		if most := int64(len(data)/requestHeader) + 1; sound > most || bad > most {
			t.Errorf("%d sound and %d corrupted requests in %d bytes", sound, bad, len(data))
		}
		if len(data) > 0 && sound+bad == 0 {
			t.Errorf("%d bytes came, and nothing was counted", len(data))
		}
	})
}

// BenchmarkConversation is what a request costs with its client and its server, over loopback.
func BenchmarkConversation(b *testing.B) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := serve(l, serverConfig{}, newClock())
	defer s.close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	body := payload(1, 0, 164)
	out := make([]byte, requestHeader+len(body))
	copy(out[requestHeader:], body)
	in := make([]byte, 500)
	b.ReportAllocs()
	for i := range b.N {
		q := request{conn: 1, num: uint32(i), seen: uint32(i), length: uint32(len(body)),
			answer: uint32(len(in)), sum: crc32.Checksum(body, castagnoli)}
		q.put(out)
		if _, err := c.Write(out); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, in); err != nil {
			b.Fatal(err)
		}
	}
	if early := s.record.early.Load(); early > 0 {
		b.Errorf("%d early", early)
	}
}
