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
	f, err := FindFault(o.Break)
	if err != nil {
		return err
	}
	b, err := o.breakIt(ctx, f)
	if err != nil {
		return err
	}
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

// breakIt makes the lab with a fault, in the way that was asked for, or in the fault's first.
func (o *Options) breakIt(ctx context.Context, f Fault) (*Broken, error) {
	via := o.Via
	if !slices.Contains(f.Ways, via) && (via == "" || via == Socket) {
		via = f.Ways[0]
	}
	if !slices.Contains(f.Ways, via) {
		return nil, fmt.Errorf("lab: the fault %s is one of %s, not of %s", f.Name,
			strings.Join(f.Ways, ", "), via)
	}
	if o.IPv6 && f.only4 {
		return nil, fmt.Errorf("lab: the fault %s exists with IPv4 only", f.Name)
	}
	binary := o.Binary
	if binary == "" {
		var err error
		if binary, err = os.Executable(); err != nil {
			return nil, errors.Join(errors.New("lab"), err)
		}
	}
	return Break(ctx, BreakOptions{Fault: f, Via: via, IPv6: o.IPv6, Binary: binary})
}
