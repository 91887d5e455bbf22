package sys

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Sysctl reads a number by its sysctl(8) name, in the calling thread's network namespace if the
// name belongs to one. The name must not contain an interface's name with dots.
func Sysctl(name string) (int, error) {
	text, err := readSysctl(name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("read sysctl %s: got %q, want a number", name, text)
	}
	return n, nil
}

// readSysctl reads a sysctl's text.
func readSysctl(name string) (string, error) {
	b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return "", fmt.Errorf("read sysctl %s: %w", name, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// CongestionControl returns the default congestion control of this network namespace, as the kernel
// spells it: "cubic", "bbr".
func CongestionControl() (string, error) { return readSysctl("net.ipv4.tcp_congestion_control") }

// Forwarding reports whether this network namespace forwards IPv4 and IPv6 packets between its
// interfaces. A kernel without one of them does not forward it.
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
