package export

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
)

// MaxSessions is how many sessions are shown at most.
const MaxSessions = 200

// Sessions is some of a copier's sessions. They were looked at one after the other, in less than a
// second as a rule.
type Sessions struct {
	Now     time.Time `json:"now"`
	Live    int       `json:"live"`
	Looked  int       `json:"looked_at"` // of these; less than all if that would take too long
	Matched int       `json:"matched"`   // of these, as the query wants them
	First   []Session `json:"sessions"`
	// Missing is how many copiers did not answer.
	Missing int `json:"missing,omitempty"`
}

// Session is one copy of a client's connection at one moment. Nothing that is sent on it is shown.
type Session struct {
	Client     string  `json:"client"`
	Production string  `json:"production"`
	Target     string  `json:"target,omitempty"` // of the copy, or of the last one
	Copy       int     `json:"copy"`             // of its connection at the target, from 1
	Phase      string  `json:"phase"`
	WaitsFor   string  `json:"waits_for"`
	Waited     float64 `json:"waited_seconds"`
	Lag        float64 `json:"lag_seconds"`
	Held       int     `json:"held_bytes"`
	Waiting    uint64  `json:"waiting_bytes"`     // of the client, not taken by the target
	NoCopy     string  `json:"no_copy,omitempty"` // the reason why there is none
	Node       string  `json:"node,omitempty"`    // of several
}

// NewSession returns the JSON form of a session.
func NewSession(s *shard.Seen) Session {
	one := Session{
		Client: s.Client.String(), Production: s.Production.String(), Copy: s.Copy + 1,
		Phase: s.Phase, WaitsFor: s.Wait.String(), Waited: max(0, s.At.Sub(s.Since)).Seconds(),
		Lag: s.Lag.Seconds(), Held: s.Held, Waiting: s.Waiting,
	}
	if s.Target.IsValid() {
		one.Target = s.Target.String()
	}
	if s.Reason != ledger.None {
		one.NoCopy = s.Reason.String()
	}
	return one
}

// orders are the orders by name.
var orders = []struct {
	name  string
	order shard.Order
}{
	{"wait", shard.ByWait}, {"lag", shard.ByLag}, {"held", shard.ByHeld},
	{"client", shard.ByClient},
}

// Orders returns the names of the orders in which sessions can be asked for.
func Orders() (names []string) {
	for _, o := range orders {
		names = append(names, o.name)
	}
	return names
}

// states are the states by name.
var states = map[string]session.State{
	"watching": session.Watching, "opening": session.Opening, "flowing": session.Flowing,
	"closing": session.Closing, "refused": session.Refused,
}

// SessionQuery says in words which sessions are wanted.
type SessionQuery struct {
	// Order is one of Orders; empty: the first.
	Order string
	// Filter is words, all of which must be true of a session: an address or a network, an address
	// with a port, a port alone (:80), what is waited for, or the state. Several waits, or several
	// states, are alternatives.
	Filter string
}

// Parse returns the query that the words make.
func (w SessionQuery) Parse() (q shard.Query, err error) {
	q.Most = MaxSessions
	i := 0
	if w.Order != "" {
		i = slices.Index(Orders(), w.Order)
	}
	if i < 0 {
		return q, errors.New("got the order " + strconv.Quote(w.Order) + ": wanted one of " +
			strings.Join(Orders(), ", "))
	}
	q.Order = orders[i].order
	words := strings.Fields(w.Filter)
	if len(words) > 16 {
		return q, errors.New("got a filter of more than 16 words")
	}
	for _, word := range words {
		if err := parseWord(&q, word); err != nil {
			return q, err
		}
	}
	return q, nil
}

func parseWord(q *shard.Query, word string) error {
	if w, ok := session.WaitNamed(word); ok {
		q.Wait = q.Wait.With(w)
		return nil
	}
	if s, ok := states[word]; ok {
		q.State = append(q.State, s)
		return nil
	}
	within, port := netip.Prefix{}, uint16(0)
	if p, err := strconv.ParseUint(strings.TrimPrefix(word, ":"), 10, 16); err == nil && p > 0 &&
		word[0] == ':' {
		port = uint16(p)
	} else if a, err := netip.ParseAddrPort(word); err == nil {
		within, port = single(a.Addr()), a.Port()
	} else if a, err := netip.ParseAddr(word); err == nil {
		within = single(a)
	} else if n, err := netip.ParsePrefix(word); err == nil {
		within = n.Masked()
	} else {
		return errors.New("got " + strconv.Quote(word) + " in the filter: wanted an address, a " +
			"network, a port such as :80, a state such as flowing, or what is waited for, such " +
			"as answer")
	}
	if within.IsValid() && q.Within.IsValid() || port != 0 && q.Port != 0 {
		return errors.New("got " + strconv.Quote(word) + " in the filter beside another address " +
			"or port: wanted one")
	}
	if within.IsValid() {
		q.Within = within
	}
	if port != 0 {
		q.Port = port
	}
	return nil
}

func single(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen())
}

// Put adds what another shard has found to s.
func (s *Sessions) Put(l *shard.Look) {
	s.Looked += l.Looked
	s.Matched += l.Matched
	for _, one := range l.Found() {
		s.First = append(s.First, NewSession(&one))
	}
}

// Join adds what another copier has answered to s.
func (s *Sessions) Join(o *Sessions) {
	if o.Now.After(s.Now) {
		s.Now = o.Now
	}
	s.Live += o.Live
	s.Looked += o.Looked
	s.Matched += o.Matched
	s.Missing += o.Missing
	s.First = append(s.First, o.First...)
}

// Cut sorts the sessions of several shards or copiers, and leaves the first MaxSessions.
func (s *Sessions) Cut(order shard.Order) {
	slices.SortStableFunc(s.First, func(a, b Session) int {
		return order.Compare(a.rank(), b.rank())
	})
	s.First = s.First[:min(len(s.First), MaxSessions)]
	if s.First == nil {
		s.First = []Session{}
	}
}

func (s *Session) rank() shard.Rank {
	client, _ := netip.ParseAddrPort(s.Client) // of another node: what cannot be read comes first
	span := func(seconds float64) time.Duration { return time.Duration(seconds * 1e9) }
	return shard.Rank{Idle: s.WaitsFor == session.WaitClient.String(), Waited: span(s.Waited),
		Lag: span(s.Lag), Held: s.Held, Client: client, Copy: s.Copy}
}
