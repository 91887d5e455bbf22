package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"

	"tcpcopy/internal/way/link/key"
)

// reaches holds the words of --reach.
var reaches = []string{"auto", "loopback", "mark"}

// target returns the options of an intercept on the target.
func (o *InterceptOptions) target() []option {
	t := &o.c.Target
	return []option{
		{
			name: "on-target", group: Where, set: on(&o.c.OnTarget),
			help: "run on the test server itself: open the copies' connections here, from the " +
				"clients' own addresses",
		},
		{
			name: "allow", arg: "PORTS", group: Where, set: o.setAllow,
			help: "with --on-target, required: the ports of this host that copiers may connect " +
				"to, several with commas; loopback:PORT where the server listens on loopback " +
				"alone; any: every port but the intercept's own",
		},
		{
			name: "allow-clients", arg: "NETS", group: Where, set: setNetworks(&t.Clients),
			help: "with --on-target: let connections come only from clients in these networks, " +
				"several with commas (default: any but this host's own and its containers')",
		},
		{
			name: "netns", arg: "PATH|PID", group: Where, set: o.setNetns,
			help: "with --on-target: the server is in this network namespace; for a container, " +
				"the id of one of its processes",
		},
		{
			name: "reach", arg: "HOW", group: How, def: "auto", set: oneOf(&t.Reach, reaches...),
			choices: reaches,
			help: "with --on-target: how connections reach the server: loopback (needs a " +
				"routing rule), mark (needs a routing rule and three sysctls; the local end is " +
				"the server's own address), auto (loopback if that works)",
		},
		{
			name: "dry-run", group: How, set: on(&t.DryRun),
			help: "with --on-target: print every change that would be made on this host and how " +
				"it would be undone, and end",
		},
		{
			name: "cleanup", group: How, set: on(&t.Cleanup),
			help: "undo what an intercept that was killed has left on this target, and end",
		},
		{
			name: "max-connections", arg: "N", group: Bounds, def: "65536",
			set: whole(&t.MaxStreams, 1, 1<<20),
			help: "with --on-target: hold at most N connections, or as many as the limit of " +
				"open files allows; beyond that they are refused, and counted",
		},
		{
			name: "memory", letter: "m", arg: "MB", group: Bounds, def: "256",
			set: amount(&t.Memory, mega, mega, 1024*giga),
			help: "with --on-target: memory for bytes that wait for the server; beyond that " +
				"connections are dropped, and counted",
		},
	}
}

func (o *InterceptOptions) setAllow(s string) error {
	p, err := key.ParsePorts(s)
	if err != nil {
		return wanted("%v", err)
	}
	o.c.Target.Allow.Add(&p)
	return nil
}

func (o *InterceptOptions) setNetns(s string) error {
	if _, err := strconv.ParseUint(s, 10, 31); err == nil {
		s = "/proc/" + s + "/ns/net"
	}
	const nsfs = 0x6e736673 // statfs(2): where namespaces live
	var at syscall.Statfs_t
	switch err := syscall.Statfs(s, &at); {
	case errors.Is(err, os.ErrPermission):
		return wanted("cannot be opened: permission denied: wanted a namespace of this user, or " +
			"root")
	case err != nil:
		return wanted("is not there: wanted the id of a process, or a path such as " +
			"/run/netns/NAME")
	case int64(at.Type) != nsfs:
		return wanted("is not a network namespace: wanted the id of a process, or a path such " +
			"as /run/netns/NAME")
	}
	o.c.Target.Netns = s
	return nil
}

// onTarget refuses options that do not go with, or without, --on-target. The warning may be empty.
func (o *InterceptOptions) onTarget(c *Intercept) (warning string, err error) {
	if c.Target.Cleanup && c.Target.DryRun {
		return "", &Problem{Flag: "--dry-run", What: "does not go with --cleanup: wanted one of " +
			"them"}
	}
	if c.Target.Cleanup && !c.OnTarget {
		c.OnTarget = true
	}
	without := []string{"interface", "filter", "passlist", "allow-forwarding"}
	why := "does not go with --on-target: nothing is captured there"
	if !c.OnTarget {
		without = []string{"allow", "allow-clients", "netns", "reach", "dry-run",
			"max-connections", "memory"}
		why = "needs --on-target"
	}
	for _, name := range without {
		if f := o.fs.Lookup(name); f.Changed {
			return "", &Problem{Flag: typed(f), What: why}
		}
	}
	if c.OnTarget && slices.Contains(c.Target.Allow.List, uint16(o.port)) {
		return "", &Problem{
			Flag: "--allow", Value: fmt.Sprint(o.port), What: "is the intercept's own port: " +
				"wanted the test server's",
			Hint: "if the test server has that port, -p moves the intercept to another",
		}
	}
	switch {
	case !c.OnTarget || c.Target.Cleanup:
	case c.Target.Allow.Empty():
		return "", &Problem{
			What: "nothing that copiers may connect to: wanted --allow PORT, the test server's",
			Hint: "tcpcopy intercept --on-target --allow 8080 --key key",
		}
	case c.Target.Allow.Any:
		return "--allow any: copiers can connect to every port of this host, but for servers " +
			"that listen on loopback alone", nil
	}
	return "", nil
}
