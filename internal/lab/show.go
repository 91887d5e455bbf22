package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// showFor is how long a copy with a fault runs.
const showFor = 3 * time.Second

// showFault makes a fault, runs a copy with it, and prints what the copy and the doctor say. An
// error says also that the doctor has not found the fault.
func (o *Options) showFault(ctx context.Context, w io.Writer) error {
	b, err := o.breakIt(ctx)
	if err != nil {
		return err
	}
	f := &b.options.Fault
	defer func() {
		if e := b.Close(); e != nil {
			fmt.Fprintln(w, e)
		}
	}()
	fmt.Fprintf(w, "%s: %s\n\n", f.Name, f.Help)
	delivered, all := b.Delivered(ctx, showFor)
	for _, s := range b.Steps {
		fmt.Fprintln(w, s)
	}
	fmt.Fprintf(w, "\nThe copy delivers %d of %d requests. It says:\n", delivered, all)
	for line := range strings.Lines(b.CopySays() + "\n") {
		fmt.Fprint(w, "  ", line)
	}
	var missed []string
	visit := func(host string, codes []string) {
		v := b.Doctor(ctx, host)
		fmt.Fprintf(w, "\n%s$ %s\n%s", host, v.Command, v.Output)
		for _, c := range codes {
			if !strings.Contains(v.Output, c) {
				missed = append(missed, c)
			}
		}
	}
	for _, host := range []string{OnProduction, OnTarget, OnAssistant} {
		if codes := slices.Concat(f.Finds[host], f.Suspects[host]); len(codes) > 0 {
			visit(host, codes)
		}
	}
	if f.Witnessed != nil && b.options.Via == Raw {
		b.StartWitness(ctx)
		fmt.Fprintf(w, "\nWith a witness:\n%s\n", b.Steps[len(b.Steps)-1])
		visit(OnProduction, f.Witnessed)
	}
	if len(missed) > 0 {
		return fmt.Errorf("lab: the doctor has not found %s", strings.Join(missed, ", "))
	}
	return nil
}

// fault returns the fault of Break, and the way in which it is made: the one that was asked for, or
// the fault's first.
func (o *Options) fault() (f Fault, via string, err error) {
	if f, err = FindFault(o.Break); err != nil {
		return f, "", err
	}
	via = o.Via
	if !slices.Contains(f.Ways, via) && (via == "" || via == Socket) {
		via = f.Ways[0]
	}
	switch {
	case !slices.Contains(f.Ways, via):
		return f, "", fmt.Errorf("lab: --break %s --via %q: wanted --via %s", f.Name, via,
			strings.Join(f.Ways, ", "))
	case o.IPv6 && f.only4:
		return f, "", fmt.Errorf("lab: --break %s --ipv6: wanted IPv4", f.Name)
	}
	return f, via, nil
}

// breakIt makes the lab with its fault.
func (o *Options) breakIt(ctx context.Context) (*Broken, error) {
	f, via, err := o.fault()
	if err != nil {
		return nil, err
	}
	binary := o.Binary
	if binary == "" {
		if binary, err = os.Executable(); err != nil {
			return nil, errors.Join(errors.New("lab"), err)
		}
	}
	return Break(ctx, BreakOptions{Fault: f, Via: via, IPv6: o.IPv6, Binary: binary})
}
