package link

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/way/link/wire"
)

// streamQueue is how many bytes of operations may wait for a connection's writer.
const streamQueue = 512 << 10

// Conn is one connection of a link that the intercept has welcomed.
type Conn struct {
	*Endpoint
	welcome wire.Welcome
}

// ReadsAnswers reports whether the intercept reads what targets answer.
func (c *Conn) ReadsAnswers() bool { return c.welcome.Capabilities.Has(wire.ReadsAnswers) }

// TakesLate reports whether the intercept takes wire.OpLate.
func (c *Conn) TakesLate() bool { return c.welcome.Capabilities.Has(wire.TakesLate) }

// Host returns the address of the intercept's host.
func (c *Conn) Host() netip.Addr { return c.Endpoint.Host() }

// run keeps one connection up until the link is closed; index is its number.
func (l *Link) run(index uint8) {
	backoff := Backoff{Low: l.cfg.BackoffLo, High: l.cfg.BackoffHi}
	for l.ctx.Err() == nil {
		slot, changed := l.slot.watch()
		began := time.Now()
		c, err := l.connect(l.ctx, index, slot)
		var lived time.Duration
		if err == nil {
			err = l.serve(c, changed)
			lived = time.Since(began)
		}
		if l.ctx.Err() != nil {
			return
		}
		var wait time.Duration
		switch {
		case errors.Is(err, errSlotChanged):
		case isSlotTaken(err) && l.slot.Get() != slot:
			wait = l.cfg.BackoffLo / 4 // two copiers should not choose the same slots in turn
		default:
			wait = backoff.Next(lived)
		}
		l.failed(err)
		Sleep(l.ctx, wait)
	}
}

var errSlotChanged = errors.New("another slot was chosen")

func isSlotTaken(err error) bool {
	var r *Refused
	return errors.As(err, &r) && r.Code == wire.CodeSlot
}

// connect makes a connection and introduces the copier on it.
func (l *Link) connect(ctx context.Context, index, slot uint8) (*Conn, error) {
	h := wire.Hello{Version: wire.Version, Instance: l.cfg.Instance, Slot: slot,
		Conn: index, Conns: uint8(l.cfg.Conns), Capabilities: l.cfg.capabilities(),
		Software: l.cfg.Software, Targets: l.currentTargets(), Clients: l.cfg.Clients,
		ConnectTimeout: l.cfg.ConnectTimeout, Seed: l.cfg.Seed, Wanted: l.cfg.Wanted}
	e, f, err := l.dialer.Connect(ctx, h.Append, wire.TypeWelcome)
	c := &Conn{Endpoint: e}
	if err == nil {
		if err = c.welcome.Decode(f.Body); err == nil && l.cfg.Digests {
			err = l.cfg.digests(&c.welcome)
		}
		if err != nil {
			e.Close()
		}
	}
	var refused *Refused
	if errors.As(err, &refused) && refused.Code == wire.CodeSlot {
		l.slot.refused(l.dialer.Addr, slot, refused.Slots)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to intercept %s: %w", l.dialer.Addr, err)
	}
	if c.welcome.Way == wire.WayTunnel {
		e.out.limit = streamQueue
	}
	return c, nil
}

// digests returns an error if an intercept does not make the digests of answers that are wanted.
func (c *Config) digests(w *wire.Welcome) error {
	switch {
	case !w.Capabilities.Has(wire.Digests):
	case !c.Wanted.IsNone() && !w.Capabilities.Has(wire.Names):
		return &handshakeError{ErrOld, fmt.Sprintf("the intercept there, %s, knows no names of "+
			"fields: wanted a newer one, or no --show, --tolerance and --headers", w.Software)}
	default:
		return nil
	}
	return &handshakeError{ErrOld, fmt.Sprintf("the intercept there, %s, makes no digests of "+
		"answers: wanted a newer one, or no --compare", w.Software)}
}

// capabilities returns what this end can do.
func (c *Config) capabilities() wire.Capabilities {
	all := wire.ReadsAnswers
	if c.Digests {
		all |= wire.Digests
		if !c.Wanted.IsNone() {
			all |= wire.Names
		}
	}
	if c.OnSeen != nil || c.OnLook != nil {
		all |= wire.Probes
	}
	if c.OnLook != nil {
		all |= wire.Witness
	}
	return all
}

// Ask connects to the intercept at addr once, and returns the way that it offers. fatal reports
// that the error persists until a person does something.
func Ask(ctx context.Context, addr string, cfg Config) (way wire.Way, fatal bool, err error) {
	cfg.defaults()
	cfg.Conns = 1
	l := newLink(addr, NewSlot(), cfg)
	defer l.cancel()
	for range 3 { // another copier may have the slot
		var c *Conn
		if c, err = l.connect(ctx, 0, l.slot.Get()); err == nil {
			c.Finish(Bye(nil))
			c.Start(nil)
			c.Wait()
			return c.welcome.Way, false, nil
		}
		if !isSlotTaken(err) {
			break
		}
	}
	return 0, lasting(err), err
}

// serve reads from a welcomed connection until it ends. changed is done when another slot is
// chosen.
func (l *Link) serve(c *Conn, changed context.Context) error {
	if changed.Err() != nil {
		c.Close()
		return errSlotChanged
	}
	var room func()
	if l.cfg.OnRoom != nil {
		room = func() { l.cfg.OnRoom(c) }
	}
	c.Start(room)
	defer context.AfterFunc(l.ctx, func() { c.Finish(Bye(nil)) })()
	defer context.AfterFunc(changed, func() { c.Finish(nil) })()
	l.connected(c)
	tunnel := c.welcome.Way == wire.WayTunnel && l.cfg.OnStreams != nil
	if tunnel {
		l.cfg.OnStreams(c, true)
	}
	l.told()
	err := l.receive(c)
	if tunnel {
		l.cfg.OnStreams(c, false)
	}
	c.Close()
	c.Wait()
	l.disconnected(c)
	if changed.Err() != nil {
		err = errSlotChanged
	}
	return fmt.Errorf("link to intercept %s: %w", l.dialer.Addr, err)
}

// reports are the messages of a connection, decoded; their memory is used again.
type reports struct {
	headers wire.Headers
	batch   Batch
	tuples  []wire.Tuple
}

// receive handles what the intercept sends, until the connection ends.
func (l *Link) receive(c *Conn) error {
	var r reports
	for {
		f, err := c.Receive()
		if err == nil {
			err = l.handle(c, f, &r)
		}
		if err != nil {
			return err
		}
	}
}

// handle makes the callback for one message.
func (l *Link) handle(c *Conn, f wire.Frame, r *reports) (err error) {
	switch {
	case f.Type == wire.TypeHeaders:
		if err = r.headers.Decode(f.Body); err == nil {
			l.report(&r.headers, &r.batch)
		}
	case f.Type == wire.TypeOwner:
		var o wire.Owner
		if err = o.Decode(f.Body); err == nil {
			l.owner(o)
		}
	case f.Type == wire.TypeClaimRefused:
		r.tuples, err = wire.DecodeTuples(r.tuples[:0], f.Type, f.Body)
		if err != nil {
			return err
		}
		l.claimsRefused.Add(uint64(len(r.tuples)))
		if l.cfg.OnRefused != nil {
			l.cfg.OnRefused(r.tuples)
		}
	case f.Type == wire.TypeICMP:
		var m wire.ICMP
		if err = m.Decode(f.Body); err == nil && l.cfg.OnICMP != nil {
			l.cfg.OnICMP(m)
		}
	case f.Type == wire.TypeAnswers && l.cfg.OnAnswers != nil:
		err = l.cfg.OnAnswers(f.Body)
	case f.Type == wire.TypeSeen && l.cfg.OnSeen != nil:
		var s wire.Seen
		if err = s.Decode(f.Body); err == nil {
			l.cfg.OnSeen(&s)
		}
	case f.Type == wire.TypeLook && l.cfg.OnLook != nil:
		var q wire.Look
		if err = q.Decode(f.Body); err == nil {
			l.cfg.OnLook(q)
		}
	case f.Type == wire.TypeStreamEvents && l.cfg.OnEvents != nil:
		err = l.cfg.OnEvents(c, f.Body)
	default:
		err = f.Unexpected()
	}
	return err
}

// report makes the callback for headers.
func (l *Link) report(h *wire.Headers, b *Batch) {
	if l.cfg.OnBatch == nil {
		return
	}
	now := l.cfg.Now()
	b.Segments, b.At = h.Segments, slices.Grow(b.At[:0], len(h.Ages))
	for _, age := range h.Ages {
		b.At = append(b.At, max(now-mono.Time(age), 0))
	}
	l.cfg.OnBatch(b)
}

// connected enters a connection that was welcomed.
func (l *Link) connected(c *Conn) {
	l.mu.Lock()
	l.up = append(l.up, c)
	s, w := &l.state, &c.welcome
	s.Conns, s.Way, s.Slot, s.Software = len(l.up), w.Way, w.Slot, w.Software
	s.Reads, s.Forbidden, s.Fatal = c.ReadsAnswers(), w.Forbidden, false
	s.Probes = w.Capabilities.Has(wire.Probes)
	if !s.Up {
		s.Up, s.Since = true, time.Now()
		if l.wasUp {
			s.Reconnects++
		}
		l.wasUp = true
	}
	now := *s
	l.mu.Unlock()
	l.publish(now)
}

// told lets WaitReady return. Those who use the link know that it is up: a copy that is opened by
// whoever has waited finds it so.
func (l *Link) told() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.setReady()
}

// disconnected removes a connection.
func (l *Link) disconnected(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.up, c); i >= 0 {
		l.up = slices.Delete(l.up, i, i+1)
	}
	l.state.Conns = len(l.up)
}

// failed records why a connection could not be made, or was lost.
func (l *Link) failed(err error) {
	l.mu.Lock()
	s := &l.state
	down := len(l.up) == 0
	changed := s.Err == nil || s.Err.Error() != err.Error() || s.Up && down
	s.Err, s.Fatal = err, down && lasting(err)
	if s.Up && down {
		s.Up, s.Since = false, time.Now()
	}
	if s.Fatal {
		l.setReady()
	}
	now := *s
	l.mu.Unlock()
	if changed {
		l.publish(now)
	}
}

// setReady lets WaitReady return. The lock is held.
func (l *Link) setReady() {
	select {
	case <-l.ready:
	default:
		close(l.ready)
	}
}

// publish logs a state, one line for each change, and makes the callback.
func (l *Link) publish(s State) {
	if s.Up {
		args := []any{"intercept", s.Intercept, "slot", s.Slot, "connections", s.Conns}
		if s.Err != nil {
			args = append(args, "last", s.Err)
		}
		l.cfg.Log.Info("link: intercept is up", args...)
	} else {
		l.cfg.Log.Warn("link: intercept is down", "intercept", s.Intercept, "error", s.Err)
	}
	if l.cfg.OnState != nil {
		l.cfg.OnState(s)
	}
}
