package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/config"
	"tcpcopy/internal/doctor/collect"
	"tcpcopy/internal/engine"
	"tcpcopy/internal/sys"
)

// daemon describes how to run a command that runs until it is told to stop: its files, privileges
// and signals.
type daemon struct {
	config.Process
	report       string   // path, checked before the start; empty: none
	page         string   // path, checked before the start; empty: none
	junit        string   // path, checked before the start; empty: none
	warnings     []string // about its settings, printed before the start
	stopping     string   // printed at the first signal
	routes       bool     // it changes routes, and captures nothing
	unprivileged bool     // it neither captures nor changes routes
	needs        needs    // once everything is open
	// Called at SIGHUP. If both are nil, SIGHUP stops the command.
	reload  reloadFunc
	renew   renewFunc
	subject *collect.Subject // examined at start
}

// reloadFunc reads the settings again. It returns warnings about them.
type reloadFunc func() (*config.Copy, []string, error)

// renewFunc reads again what may change while the command runs, such as keys, and returns what has
// changed, and warnings.
type renewFunc func() (changes, warnings []string, err error)

// gcPercent lets the heap grow by a tenth before it is collected. The heap holds sessions, and
// packets allocate nothing, so the collector has little to do. Memory on a production host is
// scarce.
const gcPercent = 10

// restrain sets gcPercent, and leaves half of the processors to the host's own work unless the user
// has set GOMAXPROCS. With fewer processors to hand goroutines over to, a request takes less CPU
// (two cores, 6,000 requests/s, socket: 23 to 18 µs; tunnel: 18 + 24.5 to 13 + 21 µs). The function
// that it returns puts both back.
func restrain() (free func()) {
	percent, procs := debug.SetGCPercent(gcPercent), runtime.GOMAXPROCS(0)
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(1, procs/2))
	}
	return func() {
		debug.SetGCPercent(percent)
		runtime.GOMAXPROCS(procs)
	}
}

// serve checks files and privileges, detaches if asked to, and calls work.
func (p *program) serve(d daemon, work func(*engine.Control, *logbook) error) error {
	for _, f := range []struct{ flag, path string }{
		{"--report", d.report}, {"--html", d.page}, {"--junit", d.junit},
	} {
		if f.path == "" {
			continue
		}
		if err := export.CheckReport(f.path); err != nil {
			return &config.Problem{
				Flag: f.flag, Value: f.path,
				What: "cannot be written: " + errors.Unwrap(err).Error(),
			}
		}
	}
	op, need := "capture packets", sys.CapNetRaw
	if d.routes {
		op, need = "route the copies' connections", sys.CapNetAdmin
	}
	if !d.unprivileged && !p.has(need) {
		return &sys.CapabilityError{Op: op, Need: need, Err: os.ErrPermission}
	}
	log, err := openLog(d.LogFile, p.err)
	if err != nil {
		return err
	}
	defer log.close()
	if p.parent == nil { // a parent has printed them
		warn(p.err, d.warnings)
	}
	if d.Daemon && p.parent == nil {
		return p.detach()
	}
	if err := d.needs.check(&d); err != nil {
		return err
	}
	removePID, err := writePID(d.PIDFile)
	if err != nil {
		return err
	}
	defer removePID()

	defer restrain()()
	checked := p.checkAtStart(&d, log)
	defer checked()
	life := watchSignals(context.Background(), log.w, d.stopping, d.reload != nil || d.renew != nil)
	defer life.release()
	fresh := make(chan *config.Copy)
	if d.renew != nil {
		go renewOnSignal(life, d.renew, log)
	}
	if d.reload != nil {
		go reloadOnSignal(life, fresh, d.reload, log)
	}
	err = work(&engine.Control{
		Context: life.ctx, Stop: life.stop, Log: log.Logger, Version: Version(), Reload: fresh,
		Reloaded: func(err error) { log.seen.reloadFailed.Store(err != nil) },
		Ready: func(detail string) {
			say(p.err, "ready: %s", detail)
			log.ready.Store(true)
			go p.confineDaemon(&d, checked, log)
			if p.parent != nil {
				p.parent.Close() // the parent exits; later writes to the pipe are lost
			}
		},
	}, log)
	if err != nil && p.parent != nil && log.ready.Load() {
		return exitCode(fail(log.w, err))
	}
	return err
}

// reloadOnSignal reads the settings at each SIGHUP and sends them to the run. If they are invalid,
// the run keeps its settings.
func reloadOnSignal(
	life *lifetime, fresh chan<- *config.Copy, read reloadFunc, log *logbook,
) {
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

// renewOnSignal calls read at each SIGHUP. After an error nothing has changed.
func renewOnSignal(life *lifetime, read renewFunc, log *logbook) {
	for {
		select {
		case <-life.again:
		case <-life.ctx.Done():
			return
		}
		changes, warnings, err := read()
		if err != nil {
			say(log.w, "not reloaded: %v", err)
			log.seen.reloadFailed.Store(true)
			continue
		}
		log.seen.reloadFailed.Store(false)
		warn(log.w, warnings)
		if len(changes) == 0 {
			changes = []string{"nothing has changed"}
		}
		say(log.w, "reloaded: %s", strings.Join(changes, ", "))
	}
}

// reporter writes the JSON report repeatedly. It prints each error once.
type reporter struct {
	path      string
	log       *logbook
	lastError string // as printed; empty after a success
}

// write replaces the report with v. A repeated error is not printed again.
func (r *reporter) write(v any) error {
	if r.path == "" {
		return nil
	}
	err := export.WriteReport(r.path, v)
	switch {
	case err == nil:
		r.lastError = ""
	case err.Error() != r.lastError:
		r.lastError = err.Error()
		fmt.Fprintf(r.log.w, "tcpcopy: %s\n", oneLine(r.lastError))
	}
	return err
}
