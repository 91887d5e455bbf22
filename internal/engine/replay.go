package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/config"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/source/file"
	"tcpcopy/internal/source/filter"
)

const (
	// maxHeld is how many bytes the sessions may hold before reading pauses, until the targets have
	// taken some.
	maxHeld = 64 << 20
	// maxBusy is how many sessions may be busy before reading pauses, at --speed max. Sessions that
	// wait for more of the recording do not count, however many of them are open.
	maxBusy = 1024
	// roomPoll is how often to check whether there is room.
	roomPoll = time.Millisecond
	// replayGrace is how long a recorded session waits for bytes that a later packet has
	// acknowledged: files are out of order by more than rings, and reading may pause between two
	// packets.
	replayGrace = 2 * time.Second
)

// replay is the part of a run that reads capture files.
type replay struct {
	cp     *copier
	source *file.Source
	picker *picker
	held   int64 // bound of each shard
	busy   int64 // bound of each shard; 0: none

	paused atomic.Int64 // how long reading was paused, in nanoseconds
}

// openReplay opens the files.
func openReplay(cp *copier) (*replay, error) {
	c := cp.c
	n := int64(shardCount(c))
	held := min(c.Memory/4, maxHeld)
	for i := range c.Mappings {
		held = min(held, c.Of(i).SessionMemory/2) // one session may hold everything
	}
	r := &replay{cp: cp, held: max(held/n, 1)}
	if c.Replay.Schedule.Speed == 0 {
		r.busy = max(maxBusy/n, 1)
	}
	var err error
	if r.picker, err = newPicker(c); err != nil {
		return nil, err
	}
	r.source, err = file.Open(file.Config{
		Paths: c.Replay.Files, Schedule: c.Replay.Schedule, Passes: c.Replay.Passes,
		Duration: c.Replay.Duration, Identities: c.Replay.Identities,
		Pick: r.picker.pick, Now: cp.now,
	})
	if err != nil {
		return nil, &config.Problem{What: err.Error()}
	}
	return r, nil
}

// again begins the next pass, and reports whether there is one. The shards have taken in all of
// the one before.
func (r *replay) again() (bool, error) {
	more, err := r.source.Again()
	if !more || err != nil {
		return false, err
	}
	for _, l := range r.cp.shards {
		l.call(func(sh *shard.Shard) { sh.Renew(r.cp.now()) })
	}
	return true, nil
}

// wait waits until the sessions have room for more, or until stop is closed.
func (r *replay) wait(stop <-chan struct{}) {
	if r.room() {
		return
	}
	begun := time.Now()
	poll := time.NewTicker(roomPoll)
	defer poll.Stop()
	for !r.room() {
		select {
		case <-poll.C:
		case <-stop:
			return
		}
	}
	r.paused.Add(int64(time.Since(begun)))
}

// room reports whether the sessions have room for more.
func (r *replay) room() bool {
	for _, l := range r.cp.shards {
		if l.heldBytes.Load() > r.held || r.busy > 0 && l.busySessions.Load() > r.busy {
			return false
		}
	}
	return true
}

// fill adds the state of the replay to a snapshot.
func (r *replay) fill(s *export.Snapshot) {
	st := r.source.State()
	s.Replay = &export.Replay{
		Files: r.cp.c.Replay.Files, Speed: r.cp.c.Replay.Schedule.Speed,
		Size: st.Size, Read: st.Read, Pass: st.Pass, Passes: r.cp.c.Replay.Passes,
		Packets: st.Packets, At: time.Unix(0, st.Time), Played: st.Played,
		Began: st.Opened, Late: st.Late, Paused: time.Duration(r.paused.Load()),
		NotIP: st.NotIP, UnknownLink: st.UnknownLink, LinkMalformed: st.Malformed,
		OutsidePart: st.OutsidePart,
		Backwards:   st.Backwards, Truncated: st.Truncated, Corrupt: st.Corrupt,
		LostBefore: st.LostBefore,
		PortsSeen:  r.picker.seen(),
	}
}

// picker decides which recorded packets belong to a mapping. The source's goroutine calls pick.
type picker struct {
	table *mapping.Table
	expr  filter.Program // nil: none

	mu    sync.Mutex // guards ports
	ports map[uint16]uint64
	found bool // a packet of a mapping was seen, and ports are not needed any more
}

// maxPorts bounds how many ports are remembered of a file that has no packet of a mapping.
const maxPorts = 4096

// newPicker returns a picker for the configured mappings and filter.
func newPicker(c *config.Copy) (*picker, error) {
	p := &picker{ports: make(map[uint16]uint64)}
	var err error
	if p.table, err = mapping.NewTable(c.Mappings); err != nil {
		return nil, err
	}
	if c.Filter != nil {
		p.expr, err = filter.CompileExpr(c.Filter, filter.Options{})
	}
	return p, err
}

// pick decides on a packet, of which b is the captured part, from the IP header on, and wire the
// length.
func (p *picker) pick(b []byte, wire int) file.Pick {
	if p.expr != nil && p.expr.Match(b, &filter.Meta{}) == 0 {
		return file.Skip
	}
	var seg packet.Segment
	if err := packet.Decode(b, wire, &seg); err != nil {
		if err == packet.ErrMalformed { //nolint:errorlint // never wrapped
			return file.Keep // the classifier counts it
		}
		return file.Skip
	}
	if _, ok := p.table.Lookup(seg.Dst); ok {
		p.found = true
		if seg.Flags&(packet.SYN|packet.ACK) == packet.SYN {
			return file.Opens
		}
		return file.Keep
	}
	if _, ok := p.table.Lookup(seg.Src); ok {
		p.found = true
		return file.Keep
	}
	if !p.found {
		p.note(&seg)
	}
	return file.Skip
}

// note remembers a port that a server may have had, and that no mapping names.
func (p *picker) note(seg *packet.Segment) {
	port := min(seg.Src.Port(), seg.Dst.Port())
	switch {
	case seg.Flags&(packet.SYN|packet.ACK) == packet.SYN:
		port = seg.Dst.Port()
	case seg.Flags.Has(packet.SYN | packet.ACK):
		port = seg.Src.Port()
	}
	p.mu.Lock()
	if p.ports[port]++; len(p.ports) > maxPorts {
		delete(p.ports, port)
	}
	p.mu.Unlock()
}

// seen returns the ports of servers that were seen, the busiest first, at most ten.
func (p *picker) seen() []uint16 {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]uint16, 0, len(p.ports))
	for port := range p.ports {
		all = append(all, port)
	}
	slices.SortFunc(all, func(a, b uint16) int {
		return cmp.Or(cmp.Compare(p.ports[b], p.ports[a]), cmp.Compare(a, b))
	})
	return all[:min(len(all), 10)]
}

// describeReplay returns what a replay does, for people.
func describeReplay(c *config.Copy, via string) string {
	d := fmt.Sprintf("replaying %s: %s via %s", strings.Join(c.Replay.Files, ", "),
		strings.Join(c.MappingStrings(), ", "), via)
	switch speed := c.Replay.Schedule.Speed; speed {
	case 0:
		d += ", as fast as can be"
	case 1:
	default:
		d += fmt.Sprintf(", %g times as fast as recorded", speed)
	}
	return d
}
