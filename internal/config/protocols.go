package config

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/known"
)

// Proto is the protocol that a mapping's connections speak: auto, none, or a protocol's name.
type Proto string

// The words of --proto beside the protocols' names.
const (
	ProtoAuto Proto = "auto" // recognised by the first bytes of each connection, if it can be
	ProtoNone Proto = "none" // none: where answers end is guessed
)

// protos returns the words of --proto.
func protos() []Proto {
	all := []Proto{ProtoAuto, ProtoNone}
	for _, p := range known.All() {
		all = append(all, Proto(p.Name))
	}
	return all
}

// watchedProtocols returns the names of the protocols that read production's own answers, and of
// those in which the account counts them.
func watchedProtocols() (read, counted string) {
	var names, all []string
	for _, p := range known.All() {
		_, streams := p.NewClient().(proto.Streams)
		if streams || p.Watch != nil {
			all = append(all, p.Name)
		}
		if p.Watch != nil {
			names = append(names, p.Name)
		}
	}
	return strings.Join(all, ", "), strings.Join(names, ", ")
}

// protocolOptions returns the options that protocols bring, except refused ones. Setting one
// changes s; what is wrong with a file that one names is appended to warnings.
func protocolOptions(s known.Settings, warnings *[]string) (all []option) {
	for _, o := range brought(s) {
		if o.Refused != "" {
			continue
		}
		all = append(all, option{
			name: o.Name, letter: o.Letter, arg: o.Arg, group: Content, help: o.Help,
			clear: o.Clear,
			set:   setProtocolOption(o, warnings),
		})
	}
	return all
}

// protocolLetters returns the options of TCPCopy that protocols refuse.
func protocolLetters() (all []option) {
	for _, o := range brought(known.NewSettings()) {
		if o.Refused != "" {
			all = append(all, option{
				name: o.Name, letter: o.Letter, arg: o.Arg, group: Letters, help: o.Help,
				refused: o.Refused,
			})
		}
	}
	return all
}

func brought(s known.Settings) (all []proto.Option) {
	for _, p := range known.All() {
		if of := s[p.Kind]; of != nil {
			all = append(all, of.Options()...)
		}
	}
	return all
}

func setProtocolOption(o proto.Option, warnings *[]string) func(string) error {
	switch {
	case o.Switch != nil:
		return on(o.Switch)
	case o.IsFile:
		return func(name string) error {
			text, err := readSecret(name, warnings)
			if err != nil {
				return wanted("%v", err)
			}
			if err := o.Set(text); err != nil {
				return wanted("%s", quoting(err).What)
			}
			return nil
		}
	}
	return func(s string) error { return quoted(o.Set(s)) }
}

// maxSecret bounds a file that holds a login, in bytes.
const maxSecret = 64 << 10

// byteOrderMark is what some editors begin a file with.
const byteOrderMark = "\ufeff"

// readSecret reads a short file. It appends a warning if others can read it, too.
func readSecret(name string, warnings *[]string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot be read: %w", err)
	case len(text) > maxSecret:
		return "", fmt.Errorf("has more than %d bytes: wanted a login", maxSecret)
	}
	// The mode of a pipe or a process substitution means nothing.
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() &&
		info.Mode().Perm()&0o077 != 0 {
		*warnings = append((*warnings)[:len(*warnings):len(*warnings)], fmt.Sprintf(
			"the passwords in %q can be read by others (mode %04o): chmod 600 %s", name,
			info.Mode().Perm(), name))
	}
	return strings.TrimRight(strings.TrimPrefix(string(text), byteOrderMark), "\r\n"), nil
}

// speaks completes what the options say of protocols. A mapping with options of a protocol speaks
// that protocol alone: a request of another would pass by the options unseen.
func (c *Copy) speaks() error {
	if err := c.Mapped.speak(); err != nil && len(c.Own) < len(c.Mappings) {
		return err
	}
	for i, m := range c.Own {
		if err := m.speak(); err != nil {
			return err
		}
		c.Own[i] = m
	}
	used := make(map[Proto]bool)
	for i := range c.Mappings {
		used[c.Of(i).Proto] = true
	}
	for i := range c.Mappings {
		m := c.Of(i)
		for _, p := range m.Protocols.Used() {
			if !slices.ContainsFunc(known.All(), func(q *proto.Protocol) bool {
				return used[Proto(q.Name)] && (q == p || q.Shares == p.Kind)
			}) {
				return m.needs(p)
			}
		}
	}
	return nil
}

// needs returns the problem with options for a protocol that no mapping speaks.
func (m *Mapped) needs(p *proto.Protocol) error {
	return &Problem{
		Flag: "--proto", Value: string(m.Proto),
		What: fmt.Sprintf("does not go with options for requests of %s: wanted --proto %s, "+
			"since requests of "+
			"another protocol would pass by them", p.Name, p.Name),
	}
}

// speak completes the settings of the mapping's protocols. With --proto auto, a mapping that has
// options of one protocol, or of one and of that whose options it shares, speaks that one.
func (m *Mapped) speak() error {
	env := proto.Env{Lookup: os.Getenv, Random: rand.Reader}
	for _, p := range known.All() {
		of := m.Protocols[p.Kind]
		if of == nil || of.Empty() && m.Proto != Proto(p.Name) {
			continue
		}
		if err := of.Complete(env); err != nil {
			return incomplete(p, err)
		}
	}
	used := m.Protocols.Used()
	all := withAll(used)
	switch {
	case len(used) == 0:
		return nil
	case m.Proto == ProtoNone, m.Proto == ProtoAuto && all == nil:
		return m.needs(used[0])
	case m.Proto == ProtoAuto:
		m.Proto = Proto(all.Name)
	}
	return nil
}

// withAll returns that of the protocols which has the settings of all of them, or nil.
func withAll(list []*proto.Protocol) *proto.Protocol {
	for _, p := range list {
		if !slices.ContainsFunc(list, func(q *proto.Protocol) bool {
			return q != p && q.Kind != p.Shares
		}) {
			return p
		}
	}
	return nil
}

// incomplete returns the problem with settings that cannot be completed.
func incomplete(p *proto.Protocol, err error) error {
	var env *proto.EnvError
	if errors.As(err, &env) {
		return &Problem{Flag: "the environment's " + env.Name, What: quoting(env.Err).What}
	}
	return &Problem{Flag: "--proto", Value: p.Name, What: quoting(err).What}
}
