package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// Role is what a host is to a copy. The doctor examines one host at a time.
type Role string

// The roles.
const (
	Copier    Role = "copier"    // captures, or is fed, and sends
	Assistant Role = "assistant" // has the intercept of the raw way
	Target    Role = "target"    // has the test server, and perhaps the intercept of the tunnel
)

// Area is the part of a packet's path that a check is about.
type Area string

// The areas, in the order of the path.
const (
	Capture Area = "capture"
	Link    Area = "link"
	Forward Area = "forward path"
	Return  Area = "return path"
	Size    Area = "size"
	Service Area = "service"
)

var areas = []Area{Capture, Link, Forward, Return, Size, Service}

// State is the outcome of a check.
type State string

// The states. Unknown means that the facts do not decide; it is never shown as fine.
const (
	Fine    State = "fine"
	Found   State = "found"
	Unknown State = "unknown"
)

// Result is what a check finds about one thing: the host, a mapping, a target, or a link.
type Result struct {
	State State
	About string   // which thing; empty: the host
	Seen  string   // what was seen, with figures; or why nothing is known
	Fix   []string // commands that mend it, typed on the host On
	On    string   // host of Fix; empty: this one
	Hop   string   // what is to blame, if not that host
}

// Check is one cause.
type Check struct {
	Code  string // TC and four digits; never changed, never used again
	Area  Area
	Title string // what is wrong, in a few words
	Roles []Role // hosts on which the facts can be had
	// Quick checks need no waiting and send nothing. They run at the start of each command.
	Quick bool
	// After lists the causes whose consequence this one can be: if one of them is found, a finding
	// about the same thing is left out.
	After []string
	How   string // how the doctor knows
	Why   string // why it matters
	Mend  string // what mends it
	Judge func(*Facts) []Result
}

// Checks returns all checks, in the order of the path.
func Checks() []Check {
	all := slices.Clone(checks)
	slices.SortStableFunc(all, func(a, b Check) int {
		return inOrder(a.Area, a.Code, b.Area, b.Code)
	})
	return all
}

// inOrder compares two codes by the path of a packet.
func inOrder(area Area, code string, otherArea Area, otherCode string) int {
	if d := slices.Index(areas, area) - slices.Index(areas, otherArea); d != 0 {
		return d
	}
	return strings.Compare(code, otherCode)
}

// checks lists every check. A new one is one file and one line here.
var checks = []Check{
	capabilityCheck, downCheck, interfaceCheck, filterCheck, trafficCheck, loopbackCheck, tlsCheck,
	ringCheck, unquotedCheck, mirrorCheck, mirrorCutCheck, agentsCheck,
	linkRefusedCheck, linkSilentCheck, linkKeyCheck, linkVersionCheck, linkTargetCheck,
	linkSlowCheck,
	refusedCheck, silentCheck, routeCheck, reversePathCheck, firewallCheck, conntrackCheck,
	closedCheck, loopbackOnlyCheck, deviceCheck, namespaceCheck, backlogCheck, rejectedCheck,
	arrivesCheck, droppedCheck, unheardCheck, tupleCheck, synQueueCheck, translatedCheck,
	stalledCheck, notPassedCheck,
	forwardingCheck, answerFilterCheck, standInCheck, returnRouteCheck, answerInterfaceCheck,
	lostAnswersCheck,
	pathMTUCheck,
	closesCheck, unansweredCheck, loginCheck,
}

// Find returns the check of a code. Case does not matter.
func Find(code string) (Check, bool) {
	i := slices.IndexFunc(checks, func(c Check) bool { return strings.EqualFold(c.Code, code) })
	if i < 0 {
		return Check{}, false
	}
	return checks[i], true
}

// ok returns the result of a thing that is as it should be.
func ok(about, seen string, args ...any) Result {
	return Result{State: Fine, About: about, Seen: fmt.Sprintf(seen, args...)}
}

// unknown returns the result of a thing of which the facts do not decide.
func unknown(about, why string, args ...any) Result {
	return Result{State: Unknown, About: about, Seen: fmt.Sprintf(why, args...)}
}

// found returns a finding.
func found(about, seen string, args ...any) Result {
	return Result{State: Found, About: about, Seen: fmt.Sprintf(seen, args...)}
}

// fix adds the commands that mend a finding on this host.
func (r Result) fix(commands ...string) Result {
	r.Fix = commands
	return r
}

// at adds the host on which the finding is mended.
func (r Result) at(host string) Result {
	r.On = host
	return r
}
