package way

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/proto"
)

// MaxShards is how many shards a way can be attached to.
const MaxShards = 64

// Way carries copies to the targets. The engine calls, in this order: Open, Attach for each shard,
// Connect when the shards run, and Close; and in between, from the same goroutine, the others.
type Way interface {
	// Name returns what users call the way: the value of --via. It is final after Open.
	Name() string
	// Open checks the settings, which the way may keep, and prepares what all shards share.
	Open(h *Host, s *Settings, targets []Target) error
	// Attach returns the end for the index-th of count shards.
	Attach(index, count int) (End, error)
	// Connect makes the way ready for the first copy. The shards run.
	Connect() error
	// Check reports why the targets of a reload cannot be served: all of them, and those that are
	// new. It changes nothing that copies notice.
	Check(all []Target, added []netip.AddrPort) error
	// SetTargets takes the targets of a reload that Check has accepted, and those of earlier ones:
	// they may still have sessions.
	SetTargets(all []netip.AddrPort)
	// Account returns what the way counts beside the shards' ledgers.
	Account() Account
	// Close frees everything that Open, Attach and Connect have made. The shards have ended, or
	// never ran.
	Close()
}

// End is one shard's end of a way. All methods are for the shard's goroutine, except that any
// goroutine may receive from Wake.
type End interface {
	shard.Streams
	// Wake returns a channel that holds a token when Deliver has something to deliver.
	Wake() <-chan struct{}
	// Flush sends what the Steps since the last Flush have produced.
	Flush(now mono.Time)
	// Detach ends the use of the end: the shard has ended. Whoever waits for the shard goes on.
	Detach()
}

// Host is what a way may use of the process that it runs in.
type Host struct {
	Context  context.Context // ends when the copier is told to stop
	Log      *slog.Logger
	Software string    // this program and its version, as links introduce themselves
	Run      [16]byte  // names this run of the copier at all its links: random bytes
	Origin   time.Time // Now's zero
	Now      func() mono.Time
	// Addresses returns the addresses of this host.
	Addresses func() []netip.Addr
	// Digesting makes what the digesters of answers in one goroutine share; nil if answers are not
	// compared.
	Digesting func() *proto.Digesting
}

// Target is where copies go.
type Target struct {
	Addr   netip.AddrPort
	Copies float64 // of one session there, at most
}

// Addrs returns the addresses of targets.
func Addrs(targets []Target) []netip.AddrPort {
	all := make([]netip.AddrPort, len(targets))
	for i, t := range targets {
		all[i] = t.Addr
	}
	return all
}

// Account is what a way counts beside the shards' ledgers.
type Account struct {
	SendErrors uint64 // segments that the kernel did not take
	Links      []Link // to the intercepts
}

// Link is the state of the link to one intercept.
type Link struct {
	Intercept  string    // address and port
	Up         bool      // connected and welcomed
	Since      time.Time // when Up last changed
	Reconnects uint64    // how often it came up again after the first time
	Error      string    // why it is down, or was last; empty if it never was

	ClaimsRefused uint64 // connections that were claimed and are another copier's
	QueueDropped  uint64 // messages that found no connection to the intercept, or no room
	Forbidden     uint64 // targets that an intercept on the target does not connect to
}

// Problem is a setting that does not fit this host or the targets.
type Problem struct {
	Flag  string // as users type it; empty where no flag is to blame
	Value string // what was given to it; empty where that is not the point
	What  string // what is wrong with it, and what was wanted
	Hint  string // what to do; may be empty
}

// Error returns the problem in one line, without the hint.
func (p *Problem) Error() string {
	switch {
	case p.Flag == "":
		return p.What
	case p.Value == "":
		return p.Flag + ": " + p.What
	}
	return fmt.Sprintf("%s %q: %s", p.Flag, p.Value, p.What)
}

// Waker is a token for Wake. The zero value is not usable; NewWaker makes one.
type Waker chan struct{}

// NewWaker returns a Waker without a token.
func NewWaker() Waker { return make(Waker, 1) }

// Wake puts the token there, if it is not there yet. It never blocks.
func (w Waker) Wake() {
	select {
	case w <- struct{}{}:
	default:
	}
}
