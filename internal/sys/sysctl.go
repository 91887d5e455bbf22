package sys

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Sysctl reads a number by its sysctl(8) name, in the calling thread's network namespace where the name
// belongs to one. Dots within an interface's name are not understood.
func Sysctl(name string) (int, error) {
	text, err := readSysctl(name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("read sysctl %s: %q, wanted a number", name, text)
	}
	return n, nil
}

func readSysctl(name string) (string, error) {
	b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return "", fmt.Errorf("read sysctl %s: %w", name, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// CongestionControl is the name of the congestion control that connections of this network namespace begin with,
// as the kernel spells it: "cubic", "bbr".
func CongestionControl() (string, error) { return readSysctl("net.ipv4.tcp_congestion_control") }

// Forwarding says whether this network namespace forwards IPv4 and IPv6 packets between its interfaces.
// A kernel without one of them does not forward it.
func Forwarding() (ipv4, ipv6 bool, err error) {
	for _, f := range []struct {
		name string
		on   *bool
	}{{"net.ipv4.ip_forward", &ipv4}, {"net.ipv6.conf.all.forwarding", &ipv6}} {
		n, e := Sysctl(f.name)
		if e != nil && !errors.Is(e, os.ErrNotExist) {
			err = e
		}
		*f.on = n != 0
	}
	return ipv4, ipv6, err
}
