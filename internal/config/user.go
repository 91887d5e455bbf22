package config

import (
	"os"
	"os/user"
	"strconv"

	"tcpcopy/internal/sys"
)

// userOptions are the options about what a daemon may do once everything is open.
func userOptions(p *Process) []option {
	return []option{
		{
			name: "user", arg: "NAME|UID", group: How, set: setUser(&p.User),
			help: "become this user once everything is open; it must be able to write where " +
				"--report and other files go",
		},
		{
			name: "keep-privileges", group: How, set: on(&p.KeepPrivileges),
			help: "keep all capabilities and system calls; else those that are used no more are " +
				"given up once everything is open",
		},
	}
}

// setUser parses a user's name or number, whose group is the user's own.
func setUser(dst **sys.User) func(string) error {
	return func(s string) error {
		if os.Geteuid() != 0 {
			return wanted("only root can become another user: wanted a start as root")
		}
		u, err := user.Lookup(s)
		if err != nil {
			u, err = user.LookupId(s)
		}
		if err != nil {
			return wanted("is no user of this host: wanted a name or a number of /etc/passwd")
		}
		uid, err := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err != nil || err2 != nil {
			return wanted("has no number: wanted a user of /etc/passwd")
		}
		*dst = &sys.User{UID: uid, GID: gid}
		return nil
	}
}
