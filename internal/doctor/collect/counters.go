package collect

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strconv"
	"strings"

	"tcpcopy/internal/account/status"
	"tcpcopy/internal/doctor"
)

// kernelCounters are counters of this namespace, by name.
type kernelCounters map[string]int

// counters reads /proc/net/netstat, of the thread's namespace.
func counters() kernelCounters {
	b, err := os.ReadFile("/proc/thread-self/net/netstat")
	if err != nil {
		return nil
	}
	return parseCounters(b)
}

// parseCounters reads pairs of lines: names, then values, each behind the same prefix.
func parseCounters(b []byte) kernelCounters {
	all := kernelCounters{}
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, 1<<16)
	for lines.Scan() {
		names := strings.Fields(lines.Text())
		if !lines.Scan() {
			break
		}
		for i, v := range strings.Fields(lines.Text()) {
			if n, err := strconv.Atoi(v); err == nil && i < len(names) {
				all[names[i]] = n
			}
		}
	}
	return all
}

// since returns how much the counters have risen; nil if they are not known.
func (k kernelCounters) since(before kernelCounters) *doctor.Counters {
	if k == nil || before == nil {
		return nil
	}
	rise := func(name string) int { return k[name] - before[name] }
	return &doctor.Counters{
		ReversePath: rise("IPReversePathFilter"),
		ListenDrops: rise("ListenDrops"), ListenFull: rise("ListenOverflows"),
		SYNCookies: rise("TCPReqQFullDoCookies"), SYNQueueDrops: rise("TCPReqQFullDrop"),
	}
}

// running returns the packets of the copier that runs on this host, or nil if there is none, or
// more than one.
func running() *doctor.Running {
	var found *doctor.Running
	for _, addr := range status.Nodes() {
		n, err := status.Ask(context.Background(), addr)
		if err != nil || n.Kind != "copier" {
			continue
		}
		var account struct {
			Packets struct {
				Offered    uint64 `json:"offered"`
				KernelDrop uint64 `json:"kernel_drop"`
			} `json:"packets"`
		}
		if json.Unmarshal(n.Account, &account) != nil {
			continue
		}
		if found != nil {
			return nil
		}
		found = &doctor.Running{
			Offered: account.Packets.Offered, KernelDrop: account.Packets.KernelDrop,
		}
	}
	return found
}
