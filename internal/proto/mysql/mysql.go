// Package mysql reads the client/server protocol of MySQL and MariaDB: where commands and their
// answers end. It logs the copy in, since the client's login is of no use at the target.
//
// A login answers a challenge, and every server makes its own challenges. So the copy logs in with
// configured credentials. After that the client's commands are sent as they are, except that the
// ids of prepared statements are replaced by the target's. Commands that another server must not
// get are left out. Connections that are encrypted or compressed are not read.
//
// Files: client.go reads commands, login.go logs in, kept.go reads what the target sends back for
// that; statements.go maps statement ids; text.go, lexer.go and readonly.go judge the text of
// statements; answers.go and answer.go find where answers end.
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

// headerLen is the length of a packet's header: 3 bytes of payload length, 1 byte of sequence id.
const headerLen = 4

// maxPayload is the payload length of a packet that the next one continues.
const maxPayload = 1<<24 - 1

// Capability flags of clients and servers.
const (
	// CLIENT_MYSQL in MariaDB: if clear, there are extended capabilities
	capLongPassword   = 1 << 0
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

// MariaDB's extended capabilities.
const (
	extProgress      = 1 << 0
	extBulk          = 1 << 2
	extMetadata      = 1 << 3
	extCacheMetadata = 1 << 4
	extUnitResults   = 1 << 5
)

// Capabilities that the copy takes over from the client, if the target has them. Those that are
// not listed change the form of what follows (compression, encryption, files sent by the client),
// or are chosen by the copy itself.
const (
	followed = capLongPassword | capFoundRows | capLongFlag | capNoSchema | capODBC |
		capIgnoreSpace | capInteractive |
		capTransactions | capMultiStatement | capMultiResults | capPSMultiResults |
		capConnectAttrs |
		capSessionTrack | capAttributes
	followedExt = extProgress | extBulk | extMetadata | extCacheMetadata | extUnitResults
	// assumed stands for the capabilities of a client whose login was not captured.
	assumed = capLongPassword | capLongFlag | capTransactions | capMultiStatement |
		capMultiResults | capPSMultiResults
	assumedExt = extBulk // it does not change the form of answers
)

// Server status flags.
const (
	statusMoreResults  = 0x0008
	statusCursorExists = 0x0040
	statusNoBackslash  = 0x0200
)

// Settings are the settings of MySQL. All sessions of a mapping share them, and they must not
// change.
type Settings struct {
	Logins   []Login
	ReadOnly bool      // send only statements that cannot write
	Random   io.Reader // to encrypt passwords with
}

// Login holds the credentials of copies for the clients of one user.
type Login struct {
	User     string
	Password string
	DB       string // the database of connections found under way, whose own is not known
}

// String returns the login without its password.
func (l Login) String() string { return l.User + ":*" }

// loginForm is the error of a text that is no login.
const loginForm = "mysql: wanted USER:PASSWORD or USER:PASSWORD@DATABASE"

// ParseLogin parses USER:PASSWORD, or USER:PASSWORD@DATABASE. What follows the last @ is the
// database, so that a password that has an @ needs another @ behind it. An error does not quote s.
func ParseLogin(s string) (l Login, err error) {
	user, rest, ok := strings.Cut(s, ":")
	if !ok || user == "" {
		return l, errors.New(loginForm)
	}
	l = Login{User: user, Password: rest}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		l.Password, l.DB = rest[:i], rest[i+1:]
	}
	if len(l.User) > nameMost || len(l.DB) > nameMost || len(l.Password) > nameMost ||
		strings.ContainsRune(s, 0) {
		return Login{}, fmt.Errorf("%s, of at most %d bytes each", loginForm, nameMost)
	}
	return l, nil
}

// AddLogin adds a login, or replaces that of the same user.
func (o *Settings) AddLogin(l Login) {
	o.Logins = slices.Clone(o.Logins)
	if old := o.login(l.User); old != nil {
		*old = l
		return
	}
	o.Logins = append(o.Logins, l)
}

// nameMost is the length of the longest name or password, in bytes.
const nameMost = 256

// login returns the login for a client's user; nil if there is none.
func (o *Settings) login(user string) *Login {
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

// lenenc parses a length-encoded integer of n bytes; n is 0 if p is too short, or does not begin
// with one.
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

// appendLenenc appends a length-encoded integer.
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
