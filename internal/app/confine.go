package app

import (
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"tcpcopy/internal/account/status"
	"tcpcopy/internal/config"
	"tcpcopy/internal/sys"
	"tcpcopy/internal/way/tunnel/localroute"
)

// needs is what a daemon still does once everything is open.
type needs struct {
	capabilities []sys.Capability
	enter        bool   // enter a network namespace
	writes       []path // directories in which it makes files
	reads        []path // files that it reads again
	journal      string // the directory of the journal of this host's changes; empty: none
}

// path is a path, and the option that it comes from.
type path struct{ flag, name string }

// write adds the directory of a file, if there is one.
func (n *needs) write(flag, file string) {
	if file != "" {
		n.writes = append(n.writes, path{flag, filepath.Dir(file)})
	}
}

// readAgain adds the files that a command's options name, which a reload reads again.
func (n *needs) readAgain(fs *pflag.FlagSet) {
	fs.Visit(func(f *pflag.Flag) {
		name := f.Value.String()
		info, err := os.Stat(name)
		if f.Value.Type() == "FILE" && err == nil && info.Mode().IsRegular() {
			n.reads = append(n.reads, path{"--" + f.Name, name})
		}
	})
}

// blocked returns the first path that a user without capabilities cannot use, and for what; nil:
// there is none.
func (n *needs) blocked(u sys.User) (at *path, what string) {
	for i, w := range n.writes {
		if !sys.MayWrite(absolute(w.name), u) {
			return &n.writes[i], "write in"
		}
	}
	for i, r := range n.reads {
		if !sys.MayRead(absolute(r.name), u) {
			return &n.reads[i], "read"
		}
	}
	return nil, ""
}

// absolute returns a path from the root on, so that all directories above it count.
func absolute(name string) string {
	if a, err := filepath.Abs(name); err == nil {
		return a
	}
	return name
}

// check refuses a --user that could not do what the daemon does.
func (n *needs) check(d *daemon) error {
	n.write("--report", d.report)
	n.write("--html", d.page)
	n.write("--junit", d.junit)
	n.write("-P", d.PIDFile)
	if d.User == nil {
		return nil
	}
	if at, what := n.blocked(*d.User); at != nil {
		return &config.Problem{
			Flag: "--user", What: "cannot " + what + " " + at.name + ", as " + at.flag +
				" needs: wanted a user who can",
			Hint: "give that user the directory or the file, or name others",
		}
	}
	return nil
}

// confinement returns what the daemon may still do. As root it keeps the capability to pass over
// the modes of files only if it needs one that is another user's.
func (n *needs) confinement(d *daemon) *sys.Confinement {
	c := &sys.Confinement{User: d.User, Enter: n.enter}
	c.Keep = append(c.Keep, n.capabilities...)
	as := sys.User{UID: os.Geteuid(), GID: os.Getegid()}
	if d.User != nil {
		as = *d.User
	}
	at, _ := n.blocked(as)
	if at != nil || n.journal != "" && !sys.MayWrite(n.journal, as) {
		c.Keep = append(c.Keep, sys.CapDACOverride)
	}
	if n.enter {
		c.Keep = append(c.Keep, sys.CapSysAdmin)
	}
	return c
}

// confineDaemon gives up what the daemon does not need any more, privileges and memory, once the
// checks at its start, which need more, have ended.
func (p *program) confineDaemon(d *daemon, checked func(), log *logbook) {
	checked()
	if p.confine != nil && !d.KeepPrivileges {
		if err := p.confine(d.needs.confinement(d)); err != nil {
			say(log.w, "warning: not confined: %v", err)
		}
	}
	if now, err := sys.ReadPrivileges(); err == nil {
		log.privileges.Store((*status.Privileges)(now))
	}
	sys.ReleaseCode() // or the memory stays as it is
}

// copyNeeds returns what a copier needs. A capture's sockets are open, and need nothing. fs are the
// options, if they are read again at a reload.
func copyNeeds(c *config.Copy, fs *pflag.FlagSet) (n needs) {
	switch {
	case c.LearnWay || c.Via == config.ViaRaw: // sockets for new targets, and the firewall's rules
		n.capabilities = []sys.Capability{sys.CapNetRaw, sys.CapNetAdmin}
	case c.Via == config.ViaSocket: // each connection is marked
		n.capabilities = []sys.Capability{sys.MarkCapability()}
	}
	if c.Replay != nil && c.Replay.Passes != 1 {
		for _, f := range c.Replay.Files {
			n.reads = append(n.reads, path{"--loop", f})
		}
	}
	if fs != nil {
		n.readAgain(fs)
	}
	return n
}

// interceptNeeds returns what an intercept needs. On the assistant it sends the doctor's probes.
func interceptNeeds(c *config.Intercept) (n needs) {
	n.capabilities = []sys.Capability{sys.CapNetRaw}
	if c.OnTarget {
		n.capabilities = []sys.Capability{sys.CapNetAdmin, sys.CapNetBindService}
		n.enter = c.Target.Netns != ""
		n.journal = localroute.DefaultDir
	}
	if c.Keys != nil {
		for _, name := range c.Keys.Files() {
			n.reads = append(n.reads, path{"--keys", name})
		}
	}
	return n
}

// recordNeeds returns what a recorder needs: to make the next file.
func recordNeeds(c *config.Record) (n needs) {
	if c.File.RotateBytes > 0 || c.File.RotateEvery > 0 {
		n.write("--rotate", c.File.Path)
	}
	return n
}
