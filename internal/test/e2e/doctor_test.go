package e2e

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/doctor"
	"tcpcopy/internal/lab"
	"tcpcopy/internal/lab/netlab"
)

var (
	doctorDraws = flag.Int("doctor.draws", 24,
		"faults that TestDoctorFinds draws, in the whole size; 0: each once")
	doctorSetUps = flag.Int("doctor.setups", 50,
		"set-ups that TestDoctorFindsNothing draws, in the whole size; 0: each once")
	doctorSeed = flag.Uint64("doctor.seed", 1, "of the draws; 0: the time")
)

// draw is one fault, in one way and family.
type draw struct {
	fault lab.Fault
	via   string
	ipv6  bool
}

func (d draw) String() string {
	return fmt.Sprintf("%s/%s/ipv6=%v", d.fault.Name, d.via, d.ipv6)
}

// draws returns all combinations of a fault, a way and a family.
func draws(faults []lab.Fault) (all []draw) {
	for _, f := range faults {
		for _, via := range f.Ways {
			all = append(all, draw{f, via, false})
			if !f.Only4() {
				all = append(all, draw{f, via, true})
			}
		}
	}
	return all
}

// TestDoctorFinds makes faults and checks that the doctor on each host names the right cause there,
// and no other; and that its fix, run as printed, heals the copy.
func TestDoctorFinds(t *testing.T) {
	t.Parallel()
	for _, d := range drawnFaults(t) {
		if !d.fault.Alone {
			t.Run(d.String(), func(t *testing.T) {
				t.Parallel()
				findAndHeal(t, d)
			})
		}
	}
}

// TestDoctorFindsAlone is TestDoctorFinds with faults beside which no other test may run.
func TestDoctorFindsAlone(t *testing.T) {
	for _, d := range drawnFaults(t) {
		if d.fault.Alone {
			t.Run(d.String(), func(t *testing.T) { findAndHeal(t, d) })
		}
	}
}

// drawnFaults returns those of the faults that this run makes.
func drawnFaults(t *testing.T) []draw {
	n := *doctorDraws
	if testing.Short() {
		n = 6
	}
	return drawn(t, lab.Faults(), n)
}

// drawn returns as many combinations of the faults, drawn at random; all of them for 0.
func drawn(t *testing.T, faults []lab.Fault, n int) []draw {
	seed := *doctorSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	all := draws(faults)
	random := rand.New(rand.NewPCG(seed, 0))
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if n > 0 && n < len(all) {
		all = all[:n]
	}
	t.Logf("seed %d: %d", seed, len(all))
	return all
}

func broken(t *testing.T, o lab.BreakOptions) *lab.Broken {
	t.Helper()
	o.Binary, o.JSON = binary, true
	b, err := lab.Break(t.Context(), o)
	if denied := (*netlab.PermissionError)(nil); errors.As(err, &denied) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// visit examines a host, and returns the doctor's report.
func visit(t *testing.T, b *lab.Broken, host string) (*doctor.Report, lab.Visit) {
	t.Helper()
	v := b.Doctor(t.Context(), host)
	r := new(doctor.Report)
	if err := json.Unmarshal([]byte(v.Output), r); err != nil {
		t.Fatalf("%s$ %s: %v: exit code %d: %s", host, v.Command, err, v.Code, v.Output)
	}
	return r, v
}

func findAndHeal(t *testing.T, d draw) {
	b := broken(t, lab.BreakOptions{Fault: d.fault, Via: d.via, IPv6: d.ipv6})
	var fixes [][2]string
	examine := func(host string, want []string) *doctor.Report {
		r, v := visit(t, b, host)
		var got []string
		for _, x := range r.Findings {
			got = append(got, x.Code)
			on := host
			if x.On == lab.OnTarget || x.On == lab.OnAssistant {
				on = x.On
			}
			for _, f := range x.Fix {
				if fix := [2]string{on, f}; !slices.Contains(fixes, fix) {
					fixes = append(fixes, fix)
				}
			}
		}
		got = slices.Compact(got) // of each client
		if !slices.Equal(got, want) {
			t.Errorf("%s$ %s: found %v, want %v\n%s\ncopy: %s", host, v.Command, got, want,
				brief(r),
				b.CopySays())
		}
		codes := []int{1}
		switch {
		case slices.Contains(want, "TC0101"):
			codes = []int{3}
		case len(want) == 0:
			codes = []int{0, 4}
		}
		if !slices.Contains(codes, v.Code) || v.Took > 15*time.Second {
			t.Errorf("%s: exit code %d after %s, want %v within 15s", host, v.Code, v.Took, codes)
		}
		return r
	}
	for _, host := range []string{lab.OnProduction, lab.OnTarget, lab.OnAssistant} {
		if want, asked := d.fault.Finds[host]; asked {
			examine(host, want)
		}
	}
	for host, want := range d.fault.Suspects {
		r, v := visit(t, b, host)
		var got []string
		for _, x := range r.Unknown {
			got = append(got, x.Code)
		}
		if got = slices.Compact(got); len(r.Findings) > 0 || !slices.Equal(got, want) ||
			v.Code != 4 {
			t.Errorf("%s: exit code %d, want 4, %v not known, and nothing found\n%s", host, v.Code,
				want, brief(r))
		}
	}
	if want := d.fault.Witnessed; want != nil && d.via == raw {
		b.StartWitness(t.Context())
		for _, x := range examine(lab.OnProduction, want).Findings {
			if strings.Contains(x.Hop, "or its") {
				t.Errorf("with a witness: %s, on the %s", x.Code, x.Hop)
			}
		}
	}
	if t.Failed() || d.fault.Elsewhere {
		return
	}
	heal(t, d, b, fixes)
}

// brief returns what a report says that is not fine.
func brief(r *doctor.Report) string {
	var b strings.Builder
	for _, x := range slices.Concat(r.Findings, r.Unknown, r.Muted) {
		fmt.Fprintf(&b, "%s %s\n", x.State, x.Summary())
	}
	return b.String()
}

// heal runs the fixes that can be run, and checks that the copy then delivers everything.
func heal(t *testing.T, d draw, b *lab.Broken, fixes [][2]string) {
	t.Helper()
	ran := 0
	for _, f := range fixes {
		done, err := b.Heal(t.Context(), f[0], f[1])
		if err != nil {
			t.Fatal(err)
		}
		if done {
			ran++
		}
	}
	if ran == 0 {
		if !d.fault.Unmended {
			t.Errorf("%s has no fix that can be run: %q", d, fixes)
		}
		return
	}
	b.StartCopy(t.Context())
	delivered, all := b.Delivered(t.Context(), time.Second)
	if all == 0 || delivered != all {
		t.Errorf("healed by %q: %d of %d requests delivered\n%s\ncopy: %s", fixes, delivered, all,
			strings.Join(b.Steps, "\n"), b.CopySays())
	}
}

// shortSetUps are the set-ups of TestDoctorFindsNothing in the short size.
var shortSetUps = []string{
	"published-target/socket/ipv6=false", "iptables/raw/ipv6=true", "agent/tunnel/ipv6=true",
}

// TestDoctorFindsNothing checks that the doctor finds nothing where nothing is wrong, and knows
// everything; that clients and production see nothing of it, and that it changes nothing on any
// host.
func TestDoctorFindsNothing(t *testing.T) {
	t.Parallel()
	n := *doctorSetUps
	if testing.Short() {
		n = 0
	}
	for _, d := range drawn(t, lab.SetUps(), n) {
		if testing.Short() && !slices.Contains(shortSetUps, d.String()) {
			continue
		}
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			findsNothing(t, lab.BreakOptions{Fault: d.fault, Via: d.via, IPv6: d.ipv6})
		})
	}
}

func findsNothing(t *testing.T, o lab.BreakOptions) {
	b := broken(t, o)
	if b.Copies() {
		if delivered, all := b.Delivered(t.Context(), time.Second); delivered != all || all == 0 {
			t.Fatalf("%d of %d requests delivered: %s\n%s", delivered, all, b.CopySays(),
				strings.Join(b.Steps, "\n"))
		}
	}
	hosts := []string{b.CopierHost(), lab.OnTarget}
	if o.Via == raw {
		hosts = append(hosts, lab.OnAssistant)
	}
	before := map[string]string{}
	for _, host := range hosts {
		before[host] = settings(t, b.Host(host))
	}
	dumps := map[string]*dump{}
	for host, device := range map[string]string{
		"client": netlab.Device, lab.OnProduction: netlab.ProductionClientDevice,
	} {
		dumps[host] = startDump(t, b.Host(host), device,
			fmt.Sprintf("not tcp port %d and not arp and not (icmp6 and ip6[40] > 132) "+
				"and not (ip6 and ip6[6] == 0)", productionPort)) // neighbours, and groups
	}
	check := func(host string) {
		t.Helper()
		r, v := visit(t, b, host)
		if !b.Copies() && host != b.CopierHost() && r.State == doctor.Unknown && v.Code == 4 {
			return // no copy has come there yet
		}
		if r.State != doctor.Fine || v.Code != 0 || len(r.Fine) == 0 {
			t.Errorf("%s$ %s: %s, exit code %d, want fine, 0\n%s", host, v.Command, r.State, v.Code,
				brief(r))
		}
	}
	for _, host := range hosts {
		check(host)
	}
	if o.Via == raw {
		b.StartWitness(t.Context())
		check(lab.OnProduction)
	}
	for host, seen := range dumps {
		if n := len(seen.lengths()); n > 0 {
			t.Errorf("%s: %d packets besides those of the service on the clients' net", host, n)
		}
	}
	for _, host := range hosts {
		after := settings(t, b.Host(host))
		if after != before[host] {
			t.Errorf("%s was\n%s\nand is\n%s", host, before[host], after)
		}
	}
}

// moving matches what changes by itself in a host's settings: the counters of iptables, its
// comments with the time, and how many connections are tracked.
var moving = regexp.MustCompile(`(?m)\[\d+:\d+\]|^#.*\n|^net\.netfilter\.nf_conntrack_count.*\n`)

// settings returns a host's routes, rules, interfaces, sockets, rules of both kinds of firewall and
// all sysctls of the network, and whether it tracks connections.
func settings(t *testing.T, host *netlab.Namespace) string {
	t.Helper()
	all := hostState(t, host)
	for _, words := range [][]string{
		{"iptables-legacy-save"}, {"ip6tables-legacy-save"},
		{"sysctl", "-a", "-r", `^net\.(ipv4|ipv6|netfilter)\.`},
	} {
		out, err := host.Command(t.Context(), find(t, words[0]), words[1:]...).Output()
		if err != nil {
			t.Fatalf("%s: %v", words[0], err)
		}
		all += moving.ReplaceAllString(string(out), "")
	}
	out, err := host.Command(t.Context(), find(t, "sysctl"), "-n",
		"net.netfilter.nf_conntrack_count").Output()
	if err != nil {
		t.Fatal(err)
	}
	return all + fmt.Sprintf("connections are tracked: %v\n", strings.TrimSpace(string(out)) != "0")
}

// TestDoctorFindsTwo makes two faults that do not depend on each other, and checks that both are
// found, in the order of the path, and that all fixes together heal the copy.
func TestDoctorFindsTwo(t *testing.T) {
	t.Parallel()
	for i, c := range []struct {
		via, first, second string
		want               []string // on production
		onTarget           []string // nil: the doctor does not go there
	}{
		{socket, "filter", "input-drop", []string{"TC0104", "TC0202"}, []string{"TC0205"}},
		{socket, "interface", "mtu-hole", []string{"TC0103", "TC0401"}, nil},
		{raw, "filter", "answer-filter", []string{"TC0104", "TC0302"}, nil},
		{raw, "interface", "link-blocked-here", []string{"TC0103", "TC0205"}, nil},
		{tunnel, "port", "not-allowed", []string{"TC0105", "TC0505"}, nil},
	} {
		if testing.Short() && i > 0 {
			break
		}
		t.Run(c.first+"+"+c.second+"/"+c.via, func(t *testing.T) {
			t.Parallel()
			var both [2]lab.Fault
			for i, name := range []string{c.first, c.second} {
				f, err := lab.FindFault(name)
				if err != nil {
					t.Fatal(err)
				}
				both[i] = f
			}
			f := lab.Both(both[0], both[1])
			f.Finds = map[string][]string{lab.OnProduction: c.want}
			if c.onTarget != nil {
				f.Finds[lab.OnTarget] = c.onTarget
			}
			findAndHeal(t, draw{f, c.via, false})
		})
	}
}

// TestDoctorSaysUnknown checks that what the doctor cannot judge is neither fine nor a cause: a
// rule that drops by what is not followed, without a counter, and that does not match.
func TestDoctorSaysUnknown(t *testing.T) {
	t.Parallel()
	b := broken(t, lab.BreakOptions{Via: socket, Fault: lab.Fault{Make: []lab.HostCommand{
		{Host: lab.OnProduction, Command: "nft add table inet lab"},
		{Host: lab.OnProduction, Command: "nft 'add chain inet lab output { type filter hook " +
			"output priority 0; }'"},
		{Host: lab.OnProduction, Command: "nft add rule inet lab output tcp dport 8080 " +
			"meta cpu 4095 drop"},
	}}})
	r, v := visit(t, b, lab.OnProduction)
	isRule := func(x doctor.Finding) bool { return x.Code == "TC0205" }
	if r.State != doctor.Unknown || v.Code != 4 || !slices.ContainsFunc(r.Unknown, isRule) {
		t.Errorf("%s: %s, exit code %d, want unknown, 4, and TC0205 not known\n%s", v.Command,
			r.State, v.Code, brief(r))
	}
}

// TestDoctorForgivesLoss checks that a path which loses 1 % of all packets is not taken for one
// that drops large packets, or those of clients.
func TestDoctorForgivesLoss(t *testing.T) {
	t.Parallel()
	for _, via := range only(socket, raw) {
		t.Run(via, func(t *testing.T) {
			b := broken(t, lab.BreakOptions{Via: via, Fault: lab.Fault{Make: []lab.HostCommand{
				{Host: lab.OnSwitch, Command: "nft add table bridge lab"},
				{Host: lab.OnSwitch, Command: "nft 'add chain bridge lab forward { type filter " +
					"hook forward priority 10; }'"},
				{Host: lab.OnSwitch, Command: "nft add rule bridge lab forward numgen random " +
					"mod 100 == 0 drop"},
			}}})
			if r, v := visit(t, b, lab.OnProduction); len(r.Findings) > 0 {
				t.Errorf("%s\n%s", v.Command, brief(r))
			}
		})
	}
}

// TestDoctorHints checks that a copy which runs says what it shows of a fault, with a code and the
// command by which the doctor finds the cause.
func TestDoctorHints(t *testing.T) {
	if testing.Short() {
		return // a copy waits for 10 s before it says what has not happened
	}
	t.Parallel()
	for _, c := range []struct{ fault, via, code, what string }{
		{"port", socket, "TC0105", "no packet for 81-10.77.2.2:8080 was seen"},
		{"loopback", raw, "TC0106", "they are loopback addresses"},
		{"tls", tunnel, "TC0107", "most sessions are TLS"},
		{"ring", socket, "TC0108", "the capture ring is full"},
		{"closed", socket, "TC0201", "refuses most connections"},
		{"input-drop", socket, "TC0202", "does not answer most SYNs"},
		{"answers-lost", raw, "TC0215", "no answer came back through an intercept"},
		{"stateful-path", raw, "TC0219", "the target acknowledges nothing"},
		{"not-allowed", tunnel, "TC0505", "the intercept does not allow the targets"},
		{"closes", socket, "TC0601", "most connections"},
		{"unanswered", socket, "TC0602", "takes most sessions' requests and does not answer"},
	} {
		t.Run(c.fault+"/"+c.via, func(t *testing.T) {
			t.Parallel()
			f, err := lab.FindFault(c.fault)
			if err != nil {
				t.Fatal(err)
			}
			b := broken(t, lab.BreakOptions{Fault: f, Via: c.via})
			said := func() bool {
				for line := range strings.Lines(b.CopySays()) {
					if strings.Contains(line, "hint: "+c.code+": ") &&
						strings.Contains(line, c.what) &&
						strings.Contains(line, "tcpcopy doctor copy -x ") {
						return true
					}
				}
				return false
			}
			if !within(2*patience, said) {
				t.Errorf("no hint with %s and %q:\n%s", c.code, c.what, b.CopySays())
			}
		})
	}
}
