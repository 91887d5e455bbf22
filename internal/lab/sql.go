package lab

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// The part of MySQL's protocol that a broken lab speaks: a login without a password, and statements
// whose answer is OK. A packet has its length, its number and a payload.
const (
	sqlGreetings = 10 // version of the greeting
	sqlQuery     = 3
	sqlError     = 0xff
	sqlUser      = "app"
	sqlMethod    = "mysql_native_password"
	sqlDenied    = 1045 // error
	mostSQL      = 1 << 16

	// long passwords, protocol 4.1, transactions, secure connections, methods of login
	sqlCapabilities = 1 | 1<<9 | 1<<13 | 1<<15 | 1<<19
)

var errSQL = errors.New("not what the lab speaks of MySQL")

func readSQL(r io.Reader) (payload []byte, number byte, err error) {
	var header [4]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, 0, err
	}
	size := int(header[0]) | int(header[1])<<8 | int(header[2])<<16
	if size == 0 || size > mostSQL {
		return nil, 0, errSQL
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(r, payload)
	return payload, header[3], err
}

func writeSQL(w io.Writer, number byte, payload []byte) error {
	n := len(payload)
	_, err := w.Write(append([]byte{byte(n), byte(n >> 8), byte(n >> 16), number}, payload...))
	return err
}

// sqlGreeting is what a server says first.
func sqlGreeting() []byte {
	const challenge, utf8, autocommit = "abcdefghijklmnopqrst", 45, 2
	var capabilities [4]byte
	binary.LittleEndian.PutUint32(capabilities[:], sqlCapabilities)
	return slices.Concat([]byte{sqlGreetings}, []byte("8.0.36\x00"), []byte{1, 0, 0, 0},
		[]byte(challenge[:8]), []byte{0}, capabilities[:2], []byte{utf8, autocommit, 0},
		capabilities[2:], []byte{byte(len(challenge) + 1)}, make([]byte, 10),
		[]byte(challenge[8:]), []byte{0}, []byte(sqlMethod), []byte{0})
}

// sqlLogin is how a client logs in.
func sqlLogin() []byte {
	const utf8 = 45
	b := binary.LittleEndian.AppendUint32(nil, sqlCapabilities)
	b = binary.LittleEndian.AppendUint32(b, 1<<24)
	b = append(append(b, utf8), make([]byte, 23)...)
	return append(b, sqlUser+"\x00\x00"+sqlMethod+"\x00"...)
}

// sqlOK is the answer to a login, and to a statement.
func sqlOK() []byte { return []byte{0, 0, 0, 2, 0, 0, 0} }

func sqlRefusal() []byte {
	b := binary.LittleEndian.AppendUint16([]byte{sqlError}, sqlDenied)
	return append(b, "#28000Access denied for user '"+sqlUser+"'"...)
}

// answerSQL serves one connection.
func (e *echo) answerSQL(c net.Conn) {
	requests := bufio.NewReader(c)
	if writeSQL(c, 0, sqlGreeting()) != nil {
		return
	}
	_, number, err := readSQL(requests)
	if err != nil {
		return
	}
	if e.fault == refusesLogins {
		_ = writeSQL(c, number+1, sqlRefusal())
		return
	}
	for err = writeSQL(c, number+1, sqlOK()); err == nil; err = writeSQL(c, 1, sqlOK()) {
		command, _, failed := readSQL(requests)
		if failed != nil {
			return
		}
		if command[0] == sqlQuery {
			e.mu.Lock()
			e.lines = append(e.lines, string(command[1:]))
			e.mu.Unlock()
		}
	}
}

// talkSQL logs in on a connection, and sends statements.
func (b *Broken) talkSQL(ctx context.Context, c net.Conn, name string) {
	answers := bufio.NewReader(c)
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, _, err := readSQL(answers); err != nil || writeSQL(c, 1, sqlLogin()) != nil {
		return
	}
	if answer, _, err := readSQL(answers); err != nil || answer[0] == sqlError {
		return
	}
	for i := range loadRequests {
		_ = c.SetDeadline(time.Now().Add(time.Second))
		text := fmt.Sprintf("do 0 /* %s request %d */", name, i)
		if writeSQL(c, 0, append([]byte{sqlQuery}, text...)) != nil {
			return
		}
		if _, _, err := readSQL(answers); err != nil || !pause(ctx, requestEvery) {
			return
		}
	}
}

// withLogin adds the options by which a copy speaks MySQL.
func withLogin(args []string) []string {
	return append(slices.Clone(args), "--proto", "mysql", "--mysql-login",
		sqlUser+":secret")
}
