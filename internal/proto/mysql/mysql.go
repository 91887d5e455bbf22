// Package mysql knows the client/server protocol of MySQL and MariaDB: where commands and their answers
// end, and how a copy logs in where the client's own login proves nothing.
//
// A login answers a challenge, and every server makes its own. So the copy logs in with configured
// credentials, and from there on the client's commands go as they are, but for the numbers of prepared
// statements, which are the target's. Commands that another server must not get are left out. Connections
// that are encrypted or compressed are not read.
package mysql

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"tcpcopy/internal/proto"
)

// headerLen is the length of a packet's header: the payload's length in three bytes, and a number.
const headerLen = 4

// maxPayload is the payload of a packet that another continues.
const maxPayload = 1<<24 - 1

// Capabilities, of the client and the server.
const (
	capLongPassword   = 1 << 0 // MariaDB calls it CLIENT_MYSQL: without it, there are more capabilities
	capFoundRows      = 1 << 1
	capLongFlag       = 1 << 2
	capConnectWithDB  = 1 << 3
	capNoSchema       = 1 << 4
	capCompress       = 1 << 5
	capODBC           = 1 << 6
	capIgnoreSpace    = 1 << 8
	capProtocol41     = 1 << 9
	capInteractive    = 1 << 10
	capSSL            = 1 << 11
	capTransactions   = 1 << 13
	capSecure         = 1 << 15
	capMultiStatement = 1 << 16
	capMultiResults   = 1 << 17
	capPSMultiResults = 1 << 18
	capPluginAuth     = 1 << 19
	capConnectAttrs   = 1 << 20
	capLenencAuth     = 1 << 21
	capSessionTrack   = 1 << 23
	capDeprecateEOF   = 1 << 24
	capZstd           = 1 << 26
	capAttributes     = 1 << 27
)

// MariaDB's further capabilities.
const (
	extProgress      = 1 << 0
	extBulk          = 1 << 2
	extMetadata      = 1 << 3
	extCacheMetadata = 1 << 4
	extUnitResults   = 1 << 5
)

// Capabilities of the client's that the copy has too, if the target has them. What is not listed would
// change the form of what comes later (compression, encryption, files sent by the client), or is the copy's
// own matter.
const (
	followed = capLongPassword | capFoundRows | capLongFlag | capNoSchema | capODBC | capIgnoreSpace | capInteractive |
		capTransactions | capMultiStatement | capMultiResults | capPSMultiResults | capConnectAttrs |
		capSessionTrack | capAttributes
	followedExt = extProgress | extBulk | extMetadata | extCacheMetadata | extUnitResults
	// assumed is what a client had negotiated whose login nobody saw.
	assumed    = capLongPassword | capLongFlag | capTransactions | capMultiStatement | capMultiResults | capPSMultiResults
	assumedExt = extBulk // it changes nothing of what answers look like
)

// Server status flags.
const (
	statusMoreResults  = 0x0008
	statusCursorExists = 0x0040
	statusNoBackslash  = 0x0200
)

// Options is what a copy's user has configured. It is shared by all sessions, and not changed.
type Options struct {
	Logins   []Login
	ReadOnly bool      // only statements that cannot write go to the target
	Random   io.Reader // for the encryption of passwords
}

// Login is how a copy logs in for the clients of one user.
type Login struct {
	User     string
	Password string
	DB       string // the schema of connections whose own is not known, because they were found under way
}

// String leaves the password out.
func (l Login) String() string { return l.User + ":*" }

// loginForm is what a login looks like.
const loginForm = "mysql: wanted USER:PASSWORD or USER:PASSWORD@DATABASE"

// ParseLogin reads USER:PASSWORD, or USER:PASSWORD@DATABASE. What follows the last @ is the database: a password with
// an @ is followed by another. An error does not show the password.
func ParseLogin(s string) (l Login, err error) {
	user, rest, ok := strings.Cut(s, ":")
	if !ok || user == "" {
		return l, errors.New(loginForm)
	}
	l = Login{User: user, Password: rest}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		l.Password, l.DB = rest[:i], rest[i+1:]
	}
	if len(l.User) > nameMost || len(l.DB) > nameMost || len(l.Password) > nameMost || strings.ContainsRune(s, 0) {
		return Login{}, fmt.Errorf("%s, of at most %d bytes each", loginForm, nameMost)
	}
	return l, nil
}

// AddLogin adds a login, or puts it in the place of the one that the user has.
func (o *Options) AddLogin(l Login) {
	o.Logins = slices.Clone(o.Logins)
	if old := o.login(l.User); old != nil {
		*old = l
		return
	}
	o.Logins = append(o.Logins, l)
}

// nameMost bounds names and passwords, in bytes.
const nameMost = 256

// login finds the credentials for a client's user.
func (o *Options) login(user string) *Login {
	for i := range o.Logins {
		if o.Logins[i].User == user {
			return &o.Logins[i]
		}
	}
	return nil
}

func lost(what string, got any) error {
	return fmt.Errorf("mysql: %w: %s %v", proto.ErrLost, what, got)
}

// lenenc reads a length-encoded integer; n is how many bytes it has, 0 if p is too short or it is none.
func lenenc(p []byte) (v uint64, n int) {
	if len(p) == 0 {
		return 0, 0
	}
	switch c := p[0]; {
	case c < 0xfb:
		return uint64(c), 1
	case c == 0xfc && len(p) >= 3:
		return uint64(binary.LittleEndian.Uint16(p[1:])), 3
	case c == 0xfd && len(p) >= 4:
		return uint64(p[1]) | uint64(p[2])<<8 | uint64(p[3])<<16, 4
	case c == 0xfe && len(p) >= 9:
		return binary.LittleEndian.Uint64(p[1:]), 9
	}
	return 0, 0
}

// appendLenenc is the inverse of lenenc.
func appendLenenc(dst []byte, v uint64) []byte {
	switch {
	case v < 0xfb:
		return append(dst, byte(v))
	case v < 1<<16:
		return append(dst, 0xfc, byte(v), byte(v>>8))
	case v < 1<<24:
		return append(dst, 0xfd, byte(v), byte(v>>8), byte(v>>16))
	}
	return binary.LittleEndian.AppendUint64(append(dst, 0xfe), v)
}

// appendPacket appends a packet of less than maxPayload bytes.
func appendPacket(dst []byte, seq uint8, payload []byte) []byte {
	n := len(payload)
	return append(append(dst, byte(n), byte(n>>8), byte(n>>16), seq), payload...)
}
