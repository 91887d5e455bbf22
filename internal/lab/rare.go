package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// stallRequests is for how many of the clients' requests a copier stands still, and stallWithin for
// how long at most. A ring of 2 MB holds the packets of fewer, and one of the size that the doctor
// names those of more.
const (
	stallRequests = 3000
	stallWithin   = 20 * time.Second
)

// strangerPort is the port of another server on the intercept's host.
const strangerPort = 22

// stall has the copier stand still for a while, as on a host without CPU to spare.
func (b *Broken) stall(ctx context.Context) {
	pid, begin := b.copier.cmd.Process.Pid, time.Now()
	_ = syscall.Kill(pid, syscall.SIGSTOP) // it fails only if the copier has ended
	for from := b.production.count(); b.production.count() < from+stallRequests &&
		time.Since(begin) < stallWithin && pause(ctx, requestEvery); {
	}
	_ = syscall.Kill(pid, syscall.SIGCONT)
	b.Steps = append(b.Steps, fmt.Sprintf("%s$ kill -STOP %[2]d; sleep %.1[3]f; kill -CONT %[2]d",
		b.copierHost().Name, pid, time.Since(begin).Seconds()))
}

// interceptAddr returns the address of the intercept's host.
func (b *Broken) interceptAddr() netip.Addr {
	target, assistant, _ := b.addresses()
	if b.options.Via == Tunnel {
		return target
	}
	return assistant
}

// serveStranger has a server that speaks first, as sshd does, listen on the intercept's host.
func (b *Broken) serveStranger() (err error) {
	at := netip.AddrPortFrom(b.interceptAddr(), strangerPort)
	if b.stranger, err = b.interceptHost().Listen("tcp", at.String()); err != nil {
		return fmt.Errorf("lab: start server: %w", err)
	}
	go func() {
		for {
			c, err := b.stranger.Accept()
			if err != nil {
				return
			}
			go greet(c)
		}
	}()
	return nil
}

// greet says what sshd does, and waits for the other side's end.
func greet(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(readyWithin))
	if _, err := c.Write([]byte("SSH-2.0-lab\r\n")); err != nil {
		return
	}
	for b := make([]byte, 256); ; {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

// rareFaults are faults that need a part of the lab of their own.
func rareFaults() []Fault {
	return []Fault{
		{
			Name: "ring", Help: "the copier stands still for longer than its small ring lasts",
			Ways: allWays, Finds: found(OnProduction, "TC0108"), stalls: true,
			copy: adding("-B", "2"), load: busyLoad,
		},
		{
			Name: "conntrack", Help: "the target's table of tracked connections is full",
			Ways: []string{Socket, Raw}, tracks: true, Elsewhere: true,
			Finds: map[string][]string{OnProduction: {"TC0202"}, OnTarget: {"TC0206"}},
			Make:  nft(OnTarget, "input", "ct state invalid counter drop"),
		},
		{
			Name: "stranger", Help: "-s names another server's port",
			Ways: []string{Raw, Tunnel}, Finds: found(OnProduction, "TC0504"), Unmended: true,
			stranger: true,
			copy: func(args []string) []string {
				out := slices.Clone(args)
				out[slices.Index(out, "-s")+1] = "{stranger}"
				return out
			},
		},
		{
			Name: "login", Help: "the target's MySQL does not take the copies' password",
			Ways: allWays, Finds: found(OnProduction, "TC0603"), Unmended: true, load: sqlLoad,
			server: refusesLogins, copy: withLogin,
		},
	}
}
