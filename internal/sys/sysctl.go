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
	b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return 0, fmt.Errorf("read sysctl %s: %w", name, err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("read sysctl %s: %q, wanted a number", name, strings.TrimSpace(string(b)))
	}
	return n, nil
}

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
