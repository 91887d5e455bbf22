package lab

import (
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"sync"
)

// The protocol of the lab. A client sends requests, each a header and a payload; the server answers
// each in turn, a header and a payload too. All numbers are big-endian, sums are CRC-32C.
//
//	request  magic, connection, number, answers seen, payload length, wanted answer length,
//	         flags, payload sum, header sum
//	answer   magic, connection, number, payload length, payload sum, header sum
const (
	requestMagic = 0x54435121 // "TCQ!"
	answerMagic  = 0x54434121 // "TCA!"

	requestHeader = 36 // bytes
	answerHeader  = 24

	// maxPayload bounds requests and answers. A longer one is a corrupted header.
	maxPayload = 1 << 20

	// flagGreeted is set if the client had received the server's greeting when it sent the request.
	flagGreeted = 1

	// greetingNumber is the number of a greeting, which is an answer to no request.
	greetingNumber = 1<<32 - 1
)

// request is one request's header.
type request struct {
	conn uint32 // the connection, as the client numbers them, over the whole run
	num  uint32 // within the connection, from 0
	// complete answers that the client had received on this connection when it sent this
	seen   uint32
	length uint32 // of the payload
	answer uint32 // length of the answer that production is to give, with its header
	flags  uint32
	sum    uint32 // of the payload
}

// answer is one answer's header.
type answer struct {
	conn, num uint32
	length    uint32 // of the payload
	sum       uint32 // of the payload
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// put writes the header to the first requestHeader bytes of b.
func (r *request) put(b []byte) {
	for i, v := range [...]uint32{requestMagic, r.conn, r.num, r.seen, r.length, r.answer, r.flags,
		r.sum} {
		binary.BigEndian.PutUint32(b[4*i:], v)
	}
	binary.BigEndian.PutUint32(b[32:], crc32.Checksum(b[:32], castagnoli))
}

// parse reads the header from the first requestHeader bytes of b, and reports whether it is sound.
func (r *request) parse(b []byte) bool {
	u := func(i int) uint32 { return binary.BigEndian.Uint32(b[4*i:]) }
	*r = request{conn: u(1), num: u(2), seen: u(3), length: u(4), answer: u(5), flags: u(6),
		sum: u(7)}
	return u(0) == requestMagic && u(8) == crc32.Checksum(b[:32], castagnoli) &&
		r.length <= maxPayload && r.answer <= maxPayload
}

// put writes the header to the first answerHeader bytes of b.
func (a *answer) put(b []byte) {
	for i, v := range [...]uint32{answerMagic, a.conn, a.num, a.length, a.sum} {
		binary.BigEndian.PutUint32(b[4*i:], v)
	}
	binary.BigEndian.PutUint32(b[20:], crc32.Checksum(b[:20], castagnoli))
}

// parse reads the header from the first answerHeader bytes of b, and reports whether it is sound.
func (a *answer) parse(b []byte) bool {
	u := func(i int) uint32 { return binary.BigEndian.Uint32(b[4*i:]) }
	*a = answer{conn: u(1), num: u(2), length: u(3), sum: u(4)}
	return u(0) == answerMagic && u(5) == crc32.Checksum(b[:20], castagnoli) &&
		a.length <= maxPayload*scaleMost
}

// fillerStarts is how many payloads of a length differ.
const fillerStarts = 1 << 16

// filler is the noise that payloads consist of, the same in every run. It is made when it is first
// needed.
var filler = sync.OnceValue(func() []byte {
	b := make([]byte, fillerStarts+maxPayload*scaleMost)
	source := rand.NewPCG(1, 2)
	for i := 0; i+8 <= len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], source.Uint64())
	}
	return b
})

// payload is the content of a request or an answer. It is shared and must not be written to.
func payload(conn, num uint32, length int) []byte {
	start := (conn*2654435761 + num*40503) % fillerStarts
	return filler()[start:][:length]
}
