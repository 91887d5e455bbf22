package collect

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
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

// running returns the sum of the accounts of the copiers that run in this network namespace with
// one of the same mappings; nil if there is none.
func (c *collector) running() *doctor.Running {
	var sum *doctor.Running
	for _, addr := range status.Nodes() {
		n, err := status.Ask(c.ctx, addr)
		if err != nil || n.Kind != "copier" || !sameNamespace(n.PID) || !c.maps(n.Mappings) {
			continue
		}
		var r struct {
			Packets struct {
				Offered    uint64 `json:"offered"`
				KernelDrop uint64 `json:"kernel_drop"`
			} `json:"packets"`
			Sessions struct {
				Captured uint64            `json:"captured"`
				Dropped  map[string]uint64 `json:"dropped"`
			} `json:"sessions"`
			Agents []struct {
				Name    string `json:"name"`
				Up      bool   `json:"up"`
				Packets uint64 `json:"packets"`
				Error   string `json:"error"`
			} `json:"agents"`
			Protocol struct {
				Refused map[string]uint64 `json:"logins_refused"`
			} `json:"protocol"`
		}
		if json.Unmarshal(n.Account, &r) != nil {
			continue
		}
		if sum == nil {
			sum = &doctor.Running{
				Dropped: map[string]uint64{}, LoginsRefused: map[string]uint64{},
			}
		}
		sum.Offered += r.Packets.Offered
		sum.KernelDrop += r.Packets.KernelDrop
		sum.Sessions += r.Sessions.Captured
		for _, a := range r.Agents {
			sum.Agents = append(sum.Agents, doctor.Agent(a))
		}
		for reason, n := range r.Sessions.Dropped {
			sum.Dropped[reason] += n
		}
		for class, n := range r.Protocol.Refused {
			sum.LoginsRefused[class] += n
		}
	}
	return sum
}

// sameNamespace reports whether a process is in the thread's network namespace, as far as that may
// be looked at.
func sameNamespace(pid int) bool {
	own, err := os.Readlink("/proc/thread-self/ns/net")
	other, failed := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	return err != nil || failed != nil || own == other
}

// maps reports whether one of the mappings is one that is examined.
func (c *collector) maps(mappings []string) bool {
	return slices.ContainsFunc(c.facts.Mappings, func(m doctor.Mapping) bool {
		return slices.Contains(mappings, m.Text)
	})
}
