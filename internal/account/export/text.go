package export

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"tcpcopy/internal/core/ledger"
)

// meaning says in plain words what a reason is, and whose doing.
var meaning = map[ledger.Reason]string{
	ledger.SampledOut:        "left out by --sample or --ramp",
	ledger.Filtered:          "left out on request: --only, --except",
	ledger.TLS:               "encrypted: its bytes mean nothing to another server",
	ledger.CaptureGap:        "packets were lost before they reached the copier, and did not come again",
	ledger.NoSYN:             "already open when the copier started, and not adopted",
	ledger.GateTimeout:       "the target never began the answer that the client's next request waits for",
	ledger.TargetReset:       "the target reset the connection",
	ledger.TargetRefused:     "the target refused the connection: nothing listens there",
	ledger.TargetClosed:      "the target closed while the client still sent",
	ledger.ConnectTimeout:    "the target did not answer the connection attempt, or no route leads to it",
	ledger.SendTimeout:       "the target stopped acknowledging",
	ledger.OverMemory:        "the memory bound was reached (-m)",
	ledger.OverSessions:      "the bound on sessions was reached (--max-sessions)",
	ledger.OverSession:       "one session held more than it may (--session-memory)",
	ledger.NoSourceAddress:   "no free address and port to connect from, or --bind names none of this host",
	ledger.LinkDown:          "no link to an intercept",
	ledger.LinkError:         "the kernel refused to send the packets",
	ledger.IdleTimeout:       "neither side said anything for the session timeout (-t, -k)",
	ledger.Replaced:          "the client opened a new connection from the same port",
	ledger.Shutdown:          "the copier stopped before the session had ended",
	ledger.BadClientAddress:  "nothing can connect from the client's address: loopback, the target's own, broadcast …",
	ledger.TupleTaken:        "the client's address and port are in use at the target",
	ledger.TargetForbidden:   "the intercept lets copiers connect to its own host only, and there (with --netns, in the container) to the ports of --allow",
	ledger.Denied:            "requests that are not to reach the target, as was asked for",
	ledger.ProtoLost:         "the protocol could not be followed, and the copy's bytes would have been of our making",
	ledger.TargetOut:         "the target was taken out for a while (--health), or its mapping has it no more",
	ledger.OverRate:          "more new sessions a second than --max-rate",
	ledger.OverBandwidth:     "more traffic than --max-mbps",
	ledger.NoLogin:           "no --mysql-login for the client's user",
	ledger.LoginFailed:       "the target refused the copy's login",
	ledger.Compressed:        "compressed: not read",
	ledger.ReadOnly:          "may write: left out by --mysql-read-only",
	ledger.UnknownStatement:  "a prepared statement that the target has not",
	ledger.LoadData:          "loads a file: LOAD DATA",
	ledger.ServerCommand:     "for production's own server: KILL, replication",
	ledger.QueryAttributes:   "attributes of a query that the target would not take",
	ledger.TargetUnreachable: "the target's server cannot be reached from the client's address: the intercept's log says why",
}

// Meaning explains the reason r in a few plain words.
func Meaning(r ledger.Reason) string {
	if m, ok := meaning[r]; ok {
		return m
	}
	return r.String()
}

// number shows n with a comma after each three digits.
func number(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// count shows n of a thing, in the singular where there is one.
func count(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// percent shows the delivered share of f, "-" where nothing has ended.
func percent(f *ledger.Flow) string {
	m, ok := Delivered(f)
	if !ok {
		return "-"
	}
	return fmt.Sprintf("%d.%03d %%", m/1000, m%1000)
}

// size shows a number of bytes in the unit that fits.
func size(n uint64) string {
	const k = 1024
	switch {
	case n < k:
		return count(n, "byte", "bytes")
	case n < k*k:
		return fmt.Sprintf("%.1f KB", float64(n)/k)
	case n < k*k*k:
		return fmt.Sprintf("%.1f MB", float64(n)/(k*k))
	}
	return fmt.Sprintf("%.1f GB", float64(n)/(k*k*k))
}

// span shows a duration to the tenth of a second, to the second from a minute on.
func span(d time.Duration) string {
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return d.Round(100 * time.Millisecond).String()
}
