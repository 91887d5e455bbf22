package collect

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
)

// evidence returns what a bug report needs besides the facts, by the name of a file: routes, rules
// of the firewall, sysctls, counters, and the system. It has no payload and no key.
func evidence() map[string]string {
	return map[string]string{
		"routes.txt": routesText(), "rules.txt": rulesText(), "sysctls.txt": sysctlsText(),
		"netstat.txt": fileText("/proc/thread-self/net/netstat"),
		"snmp.txt":    fileText("/proc/thread-self/net/snmp"),
		"system.txt": fmt.Sprintf("%s%s, %d processors\n%s", fileText("/proc/version"),
			runtime.Version(), runtime.NumCPU(), fileText("/proc/meminfo")),
	}
}

func routesText() string {
	var b strings.Builder
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := netlink.RuleList(family)
		for _, r := range rules {
			fmt.Fprintln(&b, r)
		}
		if err != nil {
			fmt.Fprintln(&b, err)
		}
		all, err := netlink.RouteListFiltered(family, &netlink.Route{}, netlink.RT_FILTER_TABLE)
		for _, r := range all {
			fmt.Fprintln(&b, r)
		}
		if err != nil {
			fmt.Fprintln(&b, err)
		}
	}
	return b.String()
}

// rulesText returns the firewall's rules as nft lists them, and as iptables does where its own
// tables have any.
func rulesText() string {
	text := listing("nft", "-a", "list", "ruleset")
	for _, kind := range []string{"iptables", "ip6tables"} {
		file := strings.TrimSuffix(kind, "tables") + "_tables_names"
		names, err := os.ReadFile("/proc/thread-self/net/" + file)
		if err == nil && len(names) > 0 {
			text += listing(legacyCommand(kind, "-save"), "-c")
		}
	}
	return text
}

// listing returns what a command prints, and why it failed if it did.
func listing(command string, args ...string) string {
	path, err := exec.LookPath(command)
	if err != nil {
		path = "/usr/sbin/" + command
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s%v\n", out, err)
	}
	return string(out)
}

// sysctlsText returns the sysctls that decide about packets.
func sysctlsText() string {
	var b strings.Builder
	for _, pattern := range []string{
		"net/ipv4/ip_forward", "net/ipv4/conf/*/rp_filter", "net/ipv4/conf/*/forwarding",
		"net/ipv6/conf/*/forwarding", "net/ipv4/conf/*/accept_local", "net/ipv4/tcp_fwmark_accept",
		"net/ipv4/fwmark_reflect", "net/ipv4/tcp_syncookies", "net/ipv4/tcp_max_syn_backlog",
		"net/core/somaxconn", "net/ipv4/ip_local_port_range", "net/netfilter/nf_conntrack_*",
	} {
		paths, _ := filepath.Glob(filepath.Join(procSys, pattern))
		for _, p := range paths {
			name := strings.TrimPrefix(p, procSys+"/")
			fmt.Fprintf(&b, "%s = %s\n", name, strings.TrimSpace(fileText(p)))
		}
	}
	return b.String()
}

// fileText returns a file's text, or why it cannot be read.
func fileText(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error() + "\n"
	}
	return string(b)
}
