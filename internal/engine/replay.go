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
	// What the sessions may hold before no more is read: they give it to the target as fast as that takes it.
	mostHeld = 64 << 20
	// At --speed max, how many sessions may have something left to do before no more is read. Those that wait for
	// more of the recording do not count, however many were open when it was made.
	mostBusy = 1024
	// lookAgain is how often to look whether there is room.
	lookAgain = time.Millisecond
	// replayGrace is how long a recorded session waits for bytes that another packet says are there: files are
	// out of order by more than rings, and reading may pause between two packets.
	replayGrace = 2 * time.Second
)

// replay is what a run has beside the rest when its packets come from files.
type replay struct {
	cp     *copier
	source *file.Source
	picker *picker
	held   int64 // bound of each shard
	busy   int64 // bound of each shard; 0: none

	paused atomic.Int64 // for how long there was no room, in nanoseconds
}

// openReplay opens the files.
func openReplay(cp *copier) (*replay, error) {
	c := cp.c
	n := int64(shardCount(c))
	held := min(c.Memory/4, mostHeld)
	for i := range c.Mappings {
		held = min(held, c.Of(i).SessionMemory/2) // all of it may be one session's
	}
	r := &replay{cp: cp, held: max(held/n, 1)}
	if c.Replay.Schedule.Speed == 0 {
		r.busy = max(mostBusy/n, 1)
	}
	var err error
	if r.picker, err = newPicker(c); err != nil {
		return nil, err
	}
	r.source, err = file.Open(file.Config{
		Paths: c.Replay.Files, Schedule: c.Replay.Schedule, Passes: c.Replay.Passes, Duration: c.Replay.Duration,
		Pick: r.picker.pick, Now: cp.now,
	})
	if err != nil {
		return nil, &config.Problem{What: err.Error()}
	}
	return r, nil
}

// again begins the next pass, if there is to be one: all of the one before is with the shards.
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

// wait waits while the sessions hold as much as they may, or for stop.
func (r *replay) wait(stop <-chan struct{}) {
	if r.room() {
		return
	}
	begun := time.Now()
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	for !r.room() {
		select {
		case <-look.C:
		case <-stop:
			return
		}
	}
	r.paused.Add(int64(time.Since(begun)))
}

func (r *replay) room() bool {
	for _, l := range r.cp.shards {
		if l.heldBytes.Load() > r.held || r.busy > 0 && l.busySessions.Load() > r.busy {
			return false
		}
	}
	return true
}

// fill adds what is known of the replay to a snapshot.
func (r *replay) fill(s *export.Snapshot) {
	st := r.source.State()
	s.Replay = &export.Replay{
		Files: r.cp.c.Replay.Files, Speed: r.cp.c.Replay.Schedule.Speed,
		Size: st.Size, Read: st.Read, Pass: st.Pass, Passes: r.cp.c.Replay.Passes,
		Packets: st.Packets, At: time.Unix(0, st.Time), Played: st.Played,
		Began: st.Opened, Late: st.Late, Paused: time.Duration(r.paused.Load()),
		NotIP: st.NotIP, UnknownLink: st.UnknownLink, LinkMalformed: st.Malformed, OutsidePart: st.OutsidePart,
		Backwards: st.Backwards, Truncated: st.Truncated, Corrupt: st.Corrupt, LostBefore: st.LostBefore,
		PortsSeen: r.picker.seen(),
	}
}

// picker says which recorded packets are a mapping's. The source's goroutine calls pick.
type picker struct {
	table *mapping.Table
	expr  filter.Program // nil: none

	mu    sync.Mutex // guards ports
	ports map[uint16]uint64
	found bool // a packet of a mapping: what else there is matters no more
}

// mostPorts bounds how many ports are remembered of a file without a packet of a mapping.
const mostPorts = 4096

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

func (p *picker) pick(b []byte, wire int) file.Pick {
	if p.expr != nil && p.expr.Match(b, &filter.Meta{}) == 0 {
		return file.Leave
	}
	var seg packet.Segment
	if err := packet.Decode(b, wire, &seg); err != nil {
		if err == packet.ErrMalformed { //nolint:errorlint // never wrapped
			return file.Keep // the classifier counts it
		}
		return file.Leave
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
	return file.Leave
}

// note remembers which port a server may have had that no mapping names.
func (p *picker) note(seg *packet.Segment) {
	port := min(seg.Src.Port(), seg.Dst.Port())
	switch {
	case seg.Flags&(packet.SYN|packet.ACK) == packet.SYN:
		port = seg.Dst.Port()
	case seg.Flags.Has(packet.SYN | packet.ACK):
		port = seg.Src.Port()
	}
	p.mu.Lock()
	if p.ports[port]++; len(p.ports) > mostPorts {
		delete(p.ports, port)
	}
	p.mu.Unlock()
}

// seen lists the ports of servers that were seen, the busiest first, at most ten.
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
