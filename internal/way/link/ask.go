package link

import (
	"context"
	"errors"
	"net/netip"

	"tcpcopy/internal/way/link/wire"
)

// Ask connects to the intercept at addr once, and returns the way that it offers. Fatal says that the
// error will not go away by itself.
func Ask(ctx context.Context, addr string, cfg Config) (way wire.Way, fatalError bool, err error) {
	cfg.defaults()
	cfg.Conns = 1
	l := &Link{cfg: cfg, addr: addr, slot: NewSlot(), ctx: ctx}
	for range 3 { // another copier may have the slot
		var c *Conn
		if c, err = l.connect(0, l.slot.Get()); err != nil {
			if !isSlotTaken(err) {
				break
			}
			continue
		}
		defer c.Close()
		_, _ = c.Write((&wire.Bye{Reason: wire.ByeShutdown}).Append(nil))
		return c.welcome.Way, false, nil
	}
	return 0, fatal(err), err
}

func isSlotTaken(err error) bool {
	var r *Refused
	return errors.As(err, &r) && r.Code == wire.CodeSlot
}

// Host is the address of the intercept's host.
func (c *Conn) Host() netip.Addr {
	a, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}

// ReadsAnswers says whether the intercept reads what targets answer.
func (c *Conn) ReadsAnswers() bool { return c.welcome.Capabilities.Has(wire.ReadsAnswers) }
