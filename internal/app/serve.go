package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/config"
	"tcpcopy/internal/engine"
	"tcpcopy/internal/sys"
)

// daemon is how a command that runs until it is told to end is run: its files, its background, its
// signals.
type daemon struct {
	config.Process
	report   string   // path, checked before the start; empty: none
	page     string   // likewise
	warnings []string // about its settings, said before it starts
	stopping string   // said at the first signal
	routes   bool     // it captures nothing, and changes routes
	ordinary bool     // it neither captures nor changes anything
	// reload reads the settings again, at SIGHUP; nil: that ends it.
	reload func() (*config.Copy, []string, error)
}

// gcPercent lets the heap grow by a quarter of what lives in it before it is collected. What lives is sessions;
// packets allocate nothing, so the collector has little to do, and memory on a production host is dear.
const gcPercent = 10

// halveProcessors leaves half of the processors to what the machine is there for, unless the user has said
// otherwise. It costs nothing: with fewer to hand goroutines over to, a request takes less CPU (two cores,
// 6,000 requests/s, socket: 23 to 18 µs; tunnel: 18 + 24.5 to 13 + 21 µs).
func halveProcessors() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)/2))
	}
}

// serve checks what can be checked, detaches if asked to, and calls work.
func (p *program) serve(d daemon, work func(*engine.Control, *logbook) error) error {
	if d.report != "" {
		if err := export.CheckReport(d.report); err != nil {
			return &config.Problem{Flag: "--report", Value: d.report, What: "cannot be written: " + errors.Unwrap(err).Error()}
		}
	}
	if d.page != "" {
		if err := export.CheckReport(d.page); err != nil {
			return &config.Problem{Flag: "--html", Value: d.page, What: "cannot be written: " + errors.Unwrap(err).Error()}
		}
	}
	op, need := "capture packets", sys.CapNetRaw
	if d.routes {
		op, need = "route the copies' connections", sys.CapNetAdmin
	}
	if !d.ordinary && !p.has(need) {
		return &sys.CapabilityError{Op: op, Need: need, Err: os.ErrPermission}
	}
	log, err := openLog(d.LogFile, p.err)
	if err != nil {
		return err
	}
	defer log.close()
	if p.parent == nil { // who has said so already
		warn(p.err, d.warnings)
	}
	if d.Daemon && p.parent == nil {
		return p.detach()
	}
	removePID, err := writePID(d.PIDFile)
	if err != nil {
		return err
	}
	defer removePID()

	debug.SetGCPercent(gcPercent)
	halveProcessors()
	life := watchSignals(context.Background(), log.w, d.stopping, d.reload != nil)
	defer life.release()
	fresh := make(chan *config.Copy)
	if d.reload != nil {
		go reloads(life, fresh, d.reload, log)
	}
	err = work(&engine.Control{
		Context: life.ctx, Stop: life.stop, Log: log.Logger, Version: Version(), Reload: fresh,
		Reloaded: func(err error) { log.seen.reloadFailed.Store(err != nil) },
		Ready: func(detail string) {
			say(p.err, "ready: %s", detail)
			log.ready.Store(true)
			if p.parent != nil {
				p.parent.Close() // it goes now; what is written to it from here on is lost
			}
		},
	}, log)
	if err != nil && p.parent != nil && log.ready.Load() {
		return coded(fail(log.w, err))
	}
	return err
}

// reloads hands the settings on at each SIGHUP. Bad ones are refused, and what was stays.
func reloads(life *lifetime, fresh chan<- *config.Copy, read func() (*config.Copy, []string, error), log *logbook) {
	for {
		select {
		case <-life.again:
		case <-life.ctx.Done():
			return
		}
		c, warnings, err := read()
		if err != nil {
			say(log.w, "not reloaded: %v", err)
			log.seen.reloadFailed.Store(true)
			continue
		}
		warn(log.w, warnings)
		select {
		case fresh <- c:
		case <-life.ctx.Done():
			return
		}
	}
}

// reporter writes the JSON report again and again, and says once what is wrong.
type reporter struct {
	path string
	log  *logbook
	said string
}

// write replaces the report by v. A failure is one line, and no more lines while it stays the same.
func (r *reporter) write(v any) error {
	if r.path == "" {
		return nil
	}
	err := export.WriteReport(r.path, v)
	switch {
	case err == nil:
		r.said = ""
	case err.Error() != r.said:
		r.said = err.Error()
		fmt.Fprintf(r.log.w, "tcpcopy: %s\n", oneLine(r.said))
	}
	return err
}
