package mysql

import (
	"bytes"
	"encoding/binary"

	"tcpcopy/internal/proto"
)

// loginMost bounds the packets of a login, in bytes: a greeting, a handshake response, a server's
// key.
const loginMost = 64 << 10

// attrsMost bounds the connection attributes that are sent to the target, in bytes; more are left
// out.
const attrsMost = 4 << 10

// identity is what the client's handshake response contains.
type identity struct {
	user, db string
	attrs    []byte // connection attributes, as the client sent them, with their length
	caps     uint32
	ext      uint32
	charset  byte
	known    bool // the response was captured
}

// cursor reads the fields of a payload. After a field that is missing, ok is false, and all
// further fields are empty.
type cursor struct {
	p  []byte
	ok bool
}

func (c *cursor) next(n int) []byte {
	if c.ok = c.ok && n >= 0 && n <= len(c.p); !c.ok {
		return nil
	}
	v := c.p[:n]
	c.p = c.p[n:]
	return v
}

// text returns a text that ends with a zero, or with the payload.
func (c *cursor) text() []byte {
	end := bytes.IndexByte(c.p, 0)
	if end < 0 {
		return c.next(len(c.p))
	}
	v := c.next(end)
	c.next(1)
	return v
}

func (c *cursor) counted() []byte {
	n, used := lenenc(c.p)
	if used == 0 || n > uint64(len(c.p)) {
		c.ok = false
		return nil
	}
	c.next(used)
	return c.next(int(n))
}

func (c *cursor) byte() byte {
	if v := c.next(1); v != nil {
		return v[0]
	}
	return 0
}

// parseResponse parses a handshake response. A request for encryption consists of its fixed part.
func parseResponse(p []byte) (id identity, err error) {
	c := cursor{p, true}
	fixed := c.next(32)
	if fixed == nil {
		return id, lost("length of a login", len(p))
	}
	id.caps = binary.LittleEndian.Uint32(fixed)
	id.charset = fixed[8]
	switch {
	case id.caps&capProtocol41 == 0:
		return id, lost("capabilities of a client", id.caps)
	case len(c.p) == 0:
		return id, nil
	}
	if id.caps&capLongPassword == 0 {
		id.ext = binary.LittleEndian.Uint32(fixed[28:])
	}
	id.user = string(c.text())
	switch {
	case id.caps&capLenencAuth != 0:
		c.counted()
	case id.caps&capSecure != 0:
		c.next(int(c.byte()))
	default:
		c.text()
	}
	if id.caps&capConnectWithDB != 0 {
		id.db = string(c.text())
	}
	if id.caps&capPluginAuth != 0 {
		c.text()
	}
	if id.caps&capConnectAttrs != 0 && len(c.p) > 0 {
		id.keepAttrs(&c)
	}
	if !c.ok || len(id.user) > nameMost || len(id.db) > nameMost {
		return identity{}, lost("login of length", len(p))
	}
	id.known = true
	return id, nil
}

func (id *identity) keepAttrs(c *cursor) {
	from := c.p
	c.counted()
	if n := len(from) - len(c.p); c.ok && n <= attrsMost {
		id.attrs = append([]byte(nil), from[:n]...)
	}
}

// utf8mb4 is the character set of a client whose login was not captured. Most clients have it, and
// ASCII is the same in others.
const utf8mb4 = 45

// dialogue is a login of the copy that is under way.
type dialogue struct {
	login    *Login
	plugin   string
	scramble []byte
	first    bool // the connection's first login, not one of COM_CHANGE_USER
}

// capabilities returns the capabilities of the copy's connection: the client's that can be
// followed and that the target has.
func (c *Client) capabilities() (caps, ext uint32) {
	own := uint32(assumed)
	ext = assumedExt
	if c.who.known {
		own, ext = c.who.caps, c.who.ext
		if c.production.upper {
			own &= c.production.caps | capLongPassword // what client and production agreed on
		}
	}
	h := c.target
	caps = own & followed & (h.caps | capLongPassword)
	caps |= h.caps & (capProtocol41 | capSecure | capPluginAuth | capLenencAuth | capDeprecateEOF)
	if c.who.attrs == nil {
		caps &^= capConnectAttrs
	}
	if c.who.db != "" {
		caps |= capConnectWithDB
	}
	if h.caps&capLongPassword == 0 && ext != 0 {
		return caps &^ capLongPassword, ext & followedExt & h.ext
	}
	return caps | capLongPassword, 0
}

// logIn answers the target's greeting, in place of n bytes of the client.
func (c *Client) logIn(n int, out *proto.Out) error {
	login, err := c.credentials()
	if err != nil {
		return err
	}
	caps, ext := c.capabilities()
	if caps&capProtocol41 == 0 || caps&capSecure == 0 {
		return loginRefusal(0, true)
	}
	c.caps = caps
	d := &dialogue{login: login, plugin: c.target.plugin, scramble: c.target.scramble, first: true}
	proof, ok := prove(d.plugin, login.Password, d.scramble)
	if !ok { // the target will ask for another plugin
		d.plugin = nativePlugin
		proof = scrambleNative(login.Password, d.scramble)
	}
	b := binary.LittleEndian.AppendUint32(nil, caps)
	b = binary.LittleEndian.AppendUint32(b, maxPayload)
	charset := c.who.charset
	if !c.who.known {
		charset = utf8mb4
	}
	b = append(b, charset)
	b = append(b, make([]byte, 19)...)
	b = binary.LittleEndian.AppendUint32(b, ext)
	b = append(append(b, login.User...), 0)
	b = append(append(b, byte(len(proof))), proof...)
	if caps&capConnectWithDB != 0 {
		b = append(append(b, c.who.db...), 0)
	}
	if caps&capPluginAuth != 0 {
		b = append(append(b, d.plugin...), 0)
	}
	if caps&capConnectAttrs != 0 {
		b = append(b, c.who.attrs...)
	}
	out.Replace(n, appendPacket(nil, 1, b))
	c.dialogue, c.hold = d, true
	return nil
}

// credentials returns the login to use. A connection found under way uses the first.
func (c *Client) credentials() (*Login, error) {
	if !c.who.known && len(c.opt.Logins) > 0 {
		login := &c.opt.Logins[0]
		if c.who.db == "" {
			c.who.db = login.DB
		}
		return login, nil
	}
	if login := c.opt.login(c.who.user); c.who.known && login != nil {
		return login, nil
	}
	return nil, &proto.Refusal{Reason: noLogin, Final: true}
}

// message reads a packet of the target during a login.
func (c *Client) message(seq uint8, p []byte, out *proto.Out) error {
	d := c.dialogue
	if len(p) == 0 {
		return lost("empty packet", seq)
	}
	switch p[0] {
	case 0x00:
		c.loggedIn(p, out)
		return nil
	case 0xff:
		return refused(p)
	case 0xfe:
		f := cursor{p[1:], true}
		d.plugin = string(f.text())
		d.scramble = append([]byte(nil), challenge(d.plugin, f.p)...)
		proof, ok := prove(d.plugin, d.login.Password, d.scramble)
		if !ok {
			return loginRefusal(0, true)
		}
		out.Replace(0, appendPacket(nil, seq+1, proof))
	case 0x01:
		reply, err := c.more(p[1:])
		if err != nil || reply == nil {
			return err
		}
		out.Replace(0, appendPacket(nil, seq+1, reply))
	default:
		return lost("packet of a login", p[0])
	}
	return nil
}

// The messages of caching_sha2_password.
const (
	sha2Fast     = 3
	sha2Full     = 4
	sha2AskedKey = 2
)

// more returns the reply to a message of the target's plugin; nil if it needs none.
func (c *Client) more(p []byte) (reply []byte, err error) {
	d := c.dialogue
	switch {
	case d.plugin != sha2Plugin || len(p) == 0:
		return nil, lost("packet of a login by", d.plugin)
	case len(p) == 1 && p[0] == sha2Fast:
		return nil, nil
	case len(p) == 1 && p[0] == sha2Full:
		return []byte{sha2AskedKey}, nil
	}
	return encryptPassword(c.opt.Random, d.login.Password, d.scramble, p)
}

// loggedIn ends a login, which the target has accepted with the OK packet ok.
func (c *Client) loggedIn(ok []byte, out *proto.Out) {
	if status, there := statusOf(ok[:min(len(ok), headMost)], len(ok)); there {
		c.text.noBackslash = status&statusNoBackslash != 0
	}
	if c.dialogue.first {
		out.Request(proto.Request{Class: comConnect})
	}
	c.dialogue, c.hold = nil, false
	c.phase = authenticating
}

// The errors that another attempt with the same user and database would meet again.
const (
	errAccessDeniedToDB = 1044
	errAccessDenied     = 1045
	errUnknownDB        = 1049
	errHostNotAllowed   = 1130
	errOldProtocol      = 1251
	errNoSuchPlugin     = 1524
	errAccessNoPassword = 1698
	errPasswordExpired  = 1862
	errAccountLocked    = 3118
	errWantsEncryption  = 3159
	errLockedMariaDB    = 4151
)

// refused returns the error of a login that the target has refused with the error packet p.
func refused(p []byte) error {
	var code uint16
	if len(p) >= 3 {
		code = binary.LittleEndian.Uint16(p[1:])
	}
	final := false
	switch code {
	case errAccessDenied, errAccessDeniedToDB, errUnknownDB, errHostNotAllowed, errOldProtocol,
		errNoSuchPlugin,
		errAccessNoPassword, errPasswordExpired, errAccountLocked, errWantsEncryption,
		errLockedMariaDB:
		final = true
	}
	return loginRefusal(code, final)
}

// changeUser logs the copy in as the client's new user (COM_CHANGE_USER), in place of n bytes of
// the client.
func (c *Client) changeUser(p []byte, n int, out *proto.Out) error {
	f := cursor{p[1:], true}
	who := c.who
	who.user = string(f.text())
	f.next(int(f.byte()))
	who.db = string(f.text())
	if !f.ok || len(who.user) > nameMost || len(who.db) > nameMost {
		return lost("change of the user, of length", len(p))
	}
	if charset := f.next(2); charset != nil {
		who.charset = charset[0]
	}
	if !who.known {
		who.known, who.caps, who.ext = true, assumed, assumedExt
	}
	c.who = who
	login, err := c.credentials()
	if err != nil {
		return err
	}
	// No server has a plugin of this name, so it answers with its own and a new challenge.
	const none = "none"
	b := append([]byte{comChangeUser}, login.User...)
	b = append(b, 0, 0)
	b = append(append(b, who.db...), 0)
	b = append(append(b, who.charset, 0), none...)
	b = append(b, 0)
	if c.caps&capConnectAttrs != 0 {
		b = append(b, who.attrs...)
	}
	out.Replace(n, appendPacket(nil, 0, b))
	out.Request(proto.Request{Class: comChangeUser, Hint: hintLogin})
	c.statements.clear()
	c.dialogue, c.hold = &dialogue{login: login}, true
	return nil
}
