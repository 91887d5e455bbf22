package collect

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"tcpcopy/internal/doctor"
	"tcpcopy/internal/source/locals"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/wire"
)

const (
	witnessReady = 10 * time.Second // in which the intercept must welcome a witness
	mostWaiting  = 32               // requests that wait
	mostAtOnce   = 8                // examinations
)

// Witness is the doctor on a target that answers the examinations which an intercept passes on.
type Witness struct {
	Subject   *Subject // of this target
	Intercept netip.AddrPort
	TLS       *tls.Config // nil: no key
	// Ready reports that the intercept has welcomed the witness, and Told each examination.
	Ready func()
	Told  func(*wire.Look, *wire.Seen, *doctor.Report)

	link  *link.Link
	looks chan wire.Look
	now   map[uint32]*Examination
}

// Run answers examinations until ctx is done, and then returns nil.
func (w *Witness) Run(ctx context.Context) error {
	w.looks, w.now = make(chan wire.Look, mostWaiting), map[uint32]*Examination{}
	cfg := link.Config{
		TLS: w.TLS, Software: software + ", a witness", Log: slog.New(slog.DiscardHandler),
		OnLook: func(q wire.Look) {
			select {
			case w.looks <- q:
			default: // the copier does not wait for ever
			}
		},
	}
	var err error
	if cfg.Targets, err = w.targets(); err != nil {
		return err
	}
	w.link = link.Dial(w.Intercept.String(), link.NewSlot(), cfg)
	defer w.link.Close()
	if err := w.welcomed(ctx); err != nil {
		return err
	}
	if ctx.Err() == nil {
		w.Ready()
	}
	for {
		select {
		case q := <-w.looks:
			w.look(&q)
		case <-ctx.Done():
			return nil
		}
	}
}

// targets returns what the witness can testify of: the ports, on all of this host's addresses.
func (w *Witness) targets() (all []netip.AddrPort, err error) {
	here, err := locals.Watch()
	if err != nil {
		return nil, err
	}
	defer here.Close()
	for _, a := range here.All() {
		for _, port := range w.Subject.Ports {
			all = append(all, netip.AddrPortFrom(a.Unmap().WithZone(""), port))
		}
	}
	return all, nil
}

// welcomed waits until the intercept has welcomed the witness.
func (w *Witness) welcomed(ctx context.Context) error {
	soon, cancel := context.WithTimeout(ctx, witnessReady)
	defer cancel()
	if err := w.link.WaitReady(soon); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	s := w.link.State()
	switch {
	case s.Way != wire.WayRaw:
		return errors.New("this intercept is on the target itself, and needs no witness")
	case !s.Probes:
		return fmt.Errorf("the intercept at %s is older (%s) and knows no witness: wanted the "+
			"same version on both hosts", w.Intercept, s.Software)
	}
	return nil
}

// look carries out one step of an examination.
func (w *Witness) look(q *wire.Look) {
	a := wire.Seen{}
	switch x := w.now[q.ID]; {
	case q.Step == wire.LookBegin:
		for id, x := range w.now {
			if x.over() {
				delete(w.now, id)
			}
		}
		if len(w.now) >= mostAtOnce {
			a.Refused = "too many examinations"
			break
		}
		w.now[q.ID] = Begin(w.Subject, q)
	case x == nil:
		a.Refused = "the examination has not begun"
	case q.Step == wire.LookEnd:
		delete(w.now, q.ID)
		var r *doctor.Report
		r, a = x.End()
		w.Told(q, &a, r)
	}
	a.ID, a.Step, a.Witness = q.ID, q.Step, true
	w.link.Saw(&a)
}
