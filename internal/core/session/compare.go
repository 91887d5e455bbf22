package session

import (
	"cmp"
	"slices"
	"sort"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
)

// Comparer receives what a comparison of production's answers with a target's is made of. Each
// answer that is Due is passed to Compare or to Exclude later.
type Comparer interface {
	// Digesting is for the answers that the sessions read: production's.
	Digesting() *proto.Digesting
	// Due counts an answer that is to be compared.
	Due()
	// Exclude counts an answer that cannot be compared.
	Exclude(why Exclusion)
	// Compare compares two answers to one request. x is valid during the call.
	Compare(x *Exchange)
	// Aside is how many bytes of digests may wait for the old version's answers alone, beside the
	// room of Digesting: an old version that is slow must not exclude anything.
	Aside() *int
	// Surplus counts an answer of the target that nothing had asked for, after one to a request of
	// the endpoint.
	Surplus(u *Unit, endpoint string)
	// Ended counts a connection that did not end at the target as it did at production.
	Ended(u *Unit, endpoint string, production, target Ending)
}

// Exclusion is why an answer is not compared.
type Exclusion uint8

// The exclusions.
const (
	Unread     Exclusion = iota // production's answer was not read
	Gap                         // packets of production's answer were not captured
	NotCopied                   // the request was not sent: there was no copy at that time
	LeftOut                     // an option keeps the request from the target
	LostTrack                   // the target's answers could not be followed
	Slipped                     // the target gave a surplus answer before
	Unanswered                  // the session ended before production had answered
	OverBounds                  // too many answers wait for their counterparts
	Misaligned                  // where it ends in the bytes is not known
	NoBaseline                  // the old version, which stands in for production, has not answered
	Exclusions                  // how many there are
)

var exclusions = [Exclusions]struct{ name, meaning string }{
	Unread: {"production_unread", "production's answer was not read, or only in part"},
	Gap: {"capture_gap",
		"packets of production's answer, or of the client, were not captured"},
	NotCopied: {"not_copied", "there was no copy of the session when the request came"},
	LeftOut:   {"denied", "an option keeps the request from the target"},
	LostTrack: {"proto_lost", "the target's answers could not be followed"},
	Slipped: {"slipped",
		"the target had given an answer that nothing had asked for; that is a finding itself"},
	Unanswered: {"in_flight", "the session ended before both had answered"},
	OverBounds: {"over_compare", "more than 4,096 answers of a session, or 32 MB of all, " +
		"waited (replay: 128 MB)"},
	NoBaseline: {"no_old_answer", "with --against-only: the old version gave no answer"},
	Misaligned: {"misaligned",
		"of a protocol that is not known: where the answer ends in the bytes is not known"},
}

// String returns the exclusion's name in reports.
func (e Exclusion) String() string { return exclusions[e].name }

// Meaning explains the exclusion to users.
func (e Exclusion) Meaning() string { return exclusions[e].meaning }

// ExclusionNamed returns the exclusion of a name.
func ExclusionNamed(name string) (e Exclusion, ok bool) {
	i := slices.IndexFunc(exclusions[:], func(x struct{ name, meaning string }) bool {
		return x.name == name
	})
	return Exclusion(max(i, 0)), i >= 0
}

// Unit is what a Comparer keeps of a session.
type Unit struct {
	Course
	Baseline Course // of the old version
	Seen     [8]uint32
}

// Course is how the answers of a server went in a session.
type Course struct {
	Diverged bool  // an answer differed, and later ones may differ as a consequence
	Quiet    uint8 // how many answers have not differed since
}

// Exchange is a request with the answers of production and of the target.
type Exchange struct {
	Unit       *Unit
	Endpoint   string
	Request    uint64        // keyed hash of the request
	Unordered  bool          // lists in the answers may be in any order
	NoStatus   bool          // answers have no status
	Production *proto.Digest // never nil
	Target     *proto.Digest // nil: the target gave no answer, for the reason Failed
	Failed     ledger.Reason
	At         mono.Time // when the request was sent to the target
	Took       int64     // until the target's answer was whole, in nanoseconds; 0: not known

	// Baseline is the answer of the old version; nil: there is none. NoBaseline says why; it is
	// empty if no old version is asked.
	Baseline     *proto.Digest
	NoBaseline   string
	BaselineAt   mono.Time // as At
	BaselineTook int64     // as Took
}

// maxPairs bounds how many exchanges of one session wait for an answer.
const maxPairs = 4096

// pairing pairs production's answers with the copy's. A request is known on both sides by the
// offset at which it ends in the client's bytes, or, if the connection carries streams, by the
// number of its stream, so that requests which are left out, or precede the copy, pair nothing
// wrongly. It is nil if answers are not compared.
//
// The session of the copy owns it, and reads production. If another copy goes to the old version,
// its session has a baseline, which adds that version's answers to the same pairs.
type pairing struct {
	to    Comparer
	unit  Unit
	label proto.Labeller // of production's requests
	// streams is label, if the connection carries streams.
	streams proto.StreamLabeller
	// unordered is proto.Comparison.Unordered, or nil.
	unordered func(endpoint string) bool
	open      pairList
	sent      []uint64  // ends of the requests that the target has to answer; 0: no pair
	at        uint64    // up to where the copy's requests were noted
	known     uint64    // the last key that was noted of production's requests
	last      string    // endpoint of the last answer of the target
	off       Exclusion // why the copy's answers are not compared, if isOff
	isOff     bool
	fault     ledger.Reason // why the target ended the last copy; None: it did not
	// hasBaseline: there is a baseline, which answers more.
	hasBaseline bool
	// oldOnly: the baseline's answers take the place of production's.
	oldOnly bool
}

// pair is an exchange that is not complete.
type pair struct {
	end          uint64 // offset of the byte behind the request
	key          uint64 // by which it is found: end, or the number of its stream
	number       uint64 // of production's answer
	x            Exchange
	isSent       bool
	targetDone   bool // x.Target and x.Failed are final
	baselineSent bool
	baselineDone bool // x.Baseline and x.NoBaseline are final
	aside        bool // it waits for the baseline alone
}

// pairList holds pairs in the order of their keys. Most often the first is removed.
type pairList struct {
	all   []pair
	first int // pairs before it are gone
}

func (l *pairList) len() int { return len(l.all) - l.first }

func (l *pairList) at(i int) *pair { return &l.all[l.first+i] }

func (l *pairList) add(p *pair) { l.all = append(l.all, *p) }

// find returns the index of the pair with a key.
func (l *pairList) find(key uint64) (i int, ok bool) {
	i = sort.Search(l.len(), func(i int) bool { return l.at(i).key >= key })
	return i, i < l.len() && l.at(i).key == key
}

func (l *pairList) remove(i int) {
	if i > 0 {
		l.all = slices.Delete(l.all, l.first+i, l.first+i+1)
		return
	}
	l.all[l.first] = pair{}
	if l.first++; 2*l.first >= len(l.all) {
		l.all, l.first = slices.Delete(l.all, 0, l.first), 0
	}
}

func newPairing(to Comparer, oldOnly bool) *pairing {
	if to == nil {
		return nil
	}
	return &pairing{to: to, oldOnly: oldOnly}
}

// isFault reports whether a copy that ended for the reason r shows a fault of the target.
func isFault(r ledger.Reason) bool {
	switch r {
	case ledger.TargetReset, ledger.TargetRefused, ledger.TargetClosed, ledger.GateTimeout,
		ledger.ConnectTimeout, ledger.SendTimeout:
		return true
	}
	return false
}

// read makes a digester of production's answers, which are read from now on.
func (g *pairing) read(p *proto.Protocol) proto.Digester {
	if g == nil || p.Comparison == nil {
		return nil
	}
	g.label = p.Comparison.NewLabeller(g.to.Digesting())
	g.streams, _ = g.label.(proto.StreamLabeller)
	g.unordered = p.Comparison.Unordered
	return p.Comparison.NewDigester(g.to.Digesting())
}

// requested notes the requests that production's reader has found in p, the client's bytes from
// the offset at on. number is the number of the first one's answer.
func (g *pairing) requested(p []byte, at, number uint64, out *proto.Out) {
	if g == nil || g.label == nil {
		return
	}
	from := at
	for i := range out.Steps {
		switch st := &out.Steps[i]; st.Kind {
		case proto.PassOn:
			n := min(uint64(st.N), from+uint64(len(p))-at)
			g.label.Write(p[at-from : at-from+n])
			at += n
		case proto.Requested:
			endpoint, hash := g.label.End()
			if st.Request.Reply != proto.One {
				continue
			}
			g.known = cmp.Or(st.Request.Stream, at)
			g.expect(&pair{end: at, key: g.known, number: number, x: Exchange{
				Unit: &g.unit, Endpoint: endpoint, Request: hash,
				Unordered: g.unordered != nil && g.unordered(endpoint)}})
			number++
		case proto.Abandoned:
			g.abandon(st.Request.Number)
		}
	}
	g.requestsEnded()
}

// expect adds a pair whose answers are due.
func (g *pairing) expect(p *pair) {
	g.to.Due()
	if g.open.len() >= maxPairs {
		g.forgo(OverBounds.String())
	}
	if g.open.len() >= maxPairs {
		g.to.Exclude(OverBounds)
		return
	}
	p.baselineDone = !g.hasBaseline
	g.open.add(p)
}

// find returns the pair with a key, and its index; nil if there is none.
func (g *pairing) find(key uint64) (*pair, int) {
	i, ok := g.open.find(key)
	if !ok {
		return nil, 0
	}
	return g.open.at(i), i
}

// answered notes production's answer with this number.
func (g *pairing) answered(number uint64, d *proto.Digest) {
	if g == nil {
		return
	}
	for i := g.open.len() - 1; i >= 0; i-- { // those that wait for production are the last
		p := g.open.at(i)
		if p.number != number || p.x.Production != nil {
			continue
		}
		if d == nil || !g.keep(d) {
			g.exclude(i, OverBounds)
			return
		}
		p.x.Production = d
		g.complete(i)
		return
	}
}

// keep takes room for a digest that waits for its counterpart. It returns false if there is none.
func (g *pairing) keep(d *proto.Digest) bool { return takeRoom(&g.to.Digesting().Room, d.Size) }

func takeRoom(room *int, n int) bool {
	if *room < n {
		return false
	}
	*room -= n
	return true
}

// complete passes the i-th pair on if all answers are there.
func (g *pairing) complete(i int) {
	p := g.open.at(i)
	if p.x.Production == nil && !g.oldOnly || !p.targetDone {
		return
	}
	if x := &p.x; x.Target == nil && x.Failed == ledger.None {
		g.exclude(i, LostTrack)
		return
	}
	if g.oldOnly {
		g.completeOld(i)
		return
	}
	if !p.baselineDone {
		if g.putAside(p) {
			return
		}
		p.x.NoBaseline = OverBounds.String()
	}
	g.compare(i)
}

// compare removes the i-th pair, and passes it on.
func (g *pairing) compare(i int) {
	p := g.open.at(i)
	g.release(p)
	g.to.Compare(&p.x)
	g.open.remove(i)
}

// exclude removes the i-th pair, which cannot be compared.
func (g *pairing) exclude(i int, why Exclusion) {
	g.remove(i)
	g.to.Exclude(why)
}

func (g *pairing) remove(i int) {
	g.release(g.open.at(i))
	g.open.remove(i)
}

// release gives back the room of a pair's digests.
func (g *pairing) release(p *pair) {
	room := &g.to.Digesting().Room
	if p.aside {
		room = g.to.Aside()
	}
	*room += p.size()
	if d := p.x.Baseline; d != nil {
		*g.to.Aside() += d.Size
	}
}

// size returns what the digests of production and the target take.
func (p *pair) size() (n int) {
	for _, d := range [...]*proto.Digest{p.x.Production, p.x.Target} {
		if d != nil {
			n += d.Size
		}
	}
	return n
}

// unread notes that production's answers are not read any more, or not from where they were. What
// was read stays.
func (g *pairing) unread() {
	if g == nil {
		return
	}
	for i := 0; i < g.open.len(); {
		if g.open.at(i).x.Production == nil && !g.oldOnly {
			g.exclude(i, Gap)
		} else {
			i++
		}
	}
	g.label, g.streams = nil, nil
}

// begin notes that a copy begins at the offset base.
func (g *pairing) begin(base uint64) {
	if g == nil {
		return
	}
	for i := 0; i < g.open.len(); {
		if p := g.open.at(i); p.end > base || p.targetDone || !g.settle(i, NotCopied) {
			i++
		}
	}
	g.sent, g.at, g.isOff, g.fault = g.sent[:0], base, false, ledger.None
}

// settle settles the target's side of the i-th pair, whose request will not be answered: by the
// target's fault, if it was one, else by an exclusion. It reports whether the pair is gone.
func (g *pairing) settle(i int, why Exclusion) bool {
	if g.fault == ledger.None {
		if g.isOff {
			why = g.off
		}
		g.exclude(i, why)
		return true
	}
	n := g.open.len()
	g.open.at(i).targetDone, g.open.at(i).x.Failed = true, g.fault
	g.complete(i)
	return g.open.len() < n
}

// step notes that the copy's reader has taken n bytes of the client.
func (g *pairing) step(n int) {
	if g != nil {
		g.at += uint64(n)
	}
}

// send notes that the copy sends the request that ends here, and that the target has to answer.
func (g *pairing) send(now mono.Time) {
	if g == nil {
		return
	}
	p, i := g.find(g.at)
	switch {
	case p == nil:
		if g.at > g.known { // else it was excluded
			g.to.Due()
			g.to.Exclude(Unread)
		}
		g.sent = append(g.sent, 0)
		return
	case g.isOff:
		g.exclude(i, g.off)
		g.sent = append(g.sent, 0)
		return
	}
	p.isSent, p.x.At = true, now
	g.sent = append(g.sent, g.at)
}

// leaveOut notes that a request is not sent: that on a stream, or, if that is 0, the one that ends
// here.
func (g *pairing) leaveOut(stream uint64) {
	if g == nil {
		return
	}
	if p, i := g.find(cmp.Or(stream, g.at)); p != nil {
		g.exclude(i, LeftOut)
	}
}

// receive notes an answer of the target that ended at the time at.
func (g *pairing) receive(d *proto.Digest, at mono.Time) {
	if g == nil || len(g.sent) == 0 {
		return
	}
	end := g.sent[0]
	g.sent = g.sent[:copy(g.sent, g.sent[1:])]
	if p, i := g.find(end); p != nil && p.isSent {
		if g.last = p.x.Endpoint; d != nil && !g.keep(d) {
			g.exclude(i, OverBounds)
			return
		}
		p.targetDone, p.x.Target = true, d
		p.x.Took = max(0, int64(at.Sub(p.x.At)))
		g.complete(i)
	}
}

// slip notes an answer that nothing had asked for: which of the next ones belongs to which request
// is not known.
func (g *pairing) slip() {
	if g == nil || g.isOff {
		return
	}
	g.to.Surplus(&g.unit, g.last)
	g.giveUp(Slipped)
}

// giveUp ends the comparison of the present copy.
func (g *pairing) giveUp(why Exclusion) {
	if g == nil || g.isOff {
		return
	}
	g.off, g.isOff = why, true
	g.dropSent(why)
}

// dropSent settles the requests that the target has not answered: see settle.
func (g *pairing) dropSent(why Exclusion) {
	for i := 0; i < g.open.len(); {
		if p := g.open.at(i); !p.isSent || p.targetDone || !g.settle(i, why) {
			i++
		}
	}
	g.sent = g.sent[:0]
}

// copyEnded notes that the copy has ended for the reason r.
func (g *pairing) copyEnded(r ledger.Reason) {
	if g == nil {
		return
	}
	if isFault(r) {
		g.fault = r
		g.dropSent(NotCopied)
		return
	}
	g.fault = ledger.None
	g.dropSent(endedBy(r))
}

// endedBy returns why answers are not compared that a copy was due when it ended for the reason r,
// which is no fault of the target.
func endedBy(r ledger.Reason) Exclusion {
	switch r {
	case ledger.CaptureGap:
		return Gap
	case ledger.ProtoLost:
		return LostTrack
	case ledger.Shutdown, ledger.IdleTimeout, ledger.Replaced:
		return Unanswered
	}
	return NotCopied
}

// close ends all that is open but for what waits for the baseline: the session is over.
func (g *pairing) close() {
	if g == nil {
		return
	}
	for i := g.open.len() - 1; i >= 0; i-- {
		p := g.open.at(i)
		switch {
		case g.waitsForOld(p):
		case p.x.Production == nil && !g.oldOnly || p.isSent:
			g.exclude(i, Unanswered)
		case !g.settle(i, NotCopied) && !g.waitsForOld(p):
			g.exclude(i, NotCopied)
		}
	}
}
