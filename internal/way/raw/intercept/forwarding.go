package intercept

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ForwardingError reports that this host would forward the target's answers to real clients.
type ForwardingError struct {
	Sysctl string // the switch that is on, as sysctl(8) names it
}

// Error names the switch.
func (e *ForwardingError) Error() string {
	return fmt.Sprintf("intercept: this host forwards packets (%s=1): "+
		"it would send the target's answers to real clients", e.Sysctl)
}

// Command returns the command that switches it off.
func (e *ForwardingError) Command() string { return "sysctl -w " + e.Sysctl + "=0" }

// CheckForwarding returns a *ForwardingError if the host would forward packets that arrive on one
// of devices; none named: on any. IPv4 decides by the incoming interface's own switch, which
// net.ipv4.ip_forward sets for all; IPv6 by the switch for all, and, since Linux 6.17, by an
// interface's force_forwarding. root is /proc/sys except in tests. A switch that does not exist is
// off: the kernel lacks the protocol.
func CheckForwarding(root string, devices []string) error {
	on := func(parts ...string) bool {
		b, err := os.ReadFile(filepath.Join(append([]string{root}, parts...)...))
		return err == nil && strings.TrimSpace(string(b)) != "0"
	}
	named := devices
	if len(named) == 0 {
		if entries, err := os.ReadDir(filepath.Join(root, "net/ipv4/conf")); err == nil {
			for _, e := range entries {
				if n := e.Name(); n != "all" && n != "default" && n != "lo" {
					named = append(named, n)
				}
			}
		}
	}
	global := on("net/ipv4/ip_forward")
	if global && len(devices) == 0 {
		return &ForwardingError{"net.ipv4.ip_forward"}
	}
	for _, d := range named {
		if d == "lo" || !on("net/ipv4/conf", d, "forwarding") {
			continue
		}
		if global {
			return &ForwardingError{"net.ipv4.ip_forward"}
		}
		return &ForwardingError{"net.ipv4.conf." + dotted(d) + ".forwarding"}
	}
	if on("net/ipv6/conf/all/forwarding") {
		return &ForwardingError{"net.ipv6.conf.all.forwarding"}
	}
	for _, d := range named {
		if on("net/ipv6/conf", d, "force_forwarding") {
			return &ForwardingError{"net.ipv6.conf." + dotted(d) + ".force_forwarding"}
		}
	}
	return nil
}

// dotted returns an interface's name in sysctl(8)'s form: eth0.5 is eth0/5 there.
func dotted(device string) string { return strings.ReplaceAll(device, ".", "/") }

func randomSeed() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.NativeEndian.Uint64(b[:]) | 1
}
