package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Problem is an error of the user's input: what was given, what was wanted, and perhaps what to
// do.
type Problem struct {
	Flag  string // as people type it: "-x", "--report"; empty if no flag is concerned
	Value string // the flag's value; empty if it does not matter, or What quotes it
	What  string // what is wrong, and what was wanted
	Hint  string // what to do; may be empty
}

// Error returns the problem in one line, without the hint.
func (p *Problem) Error() string {
	switch {
	case p.Flag == "":
		return p.What
	case p.Value == "":
		return p.Flag + ": " + p.What
	}
	return fmt.Sprintf("%s %q: %s", p.Flag, p.Value, p.What)
}

// wanted returns a problem with a value whose flag is not known yet; FlagProblem adds it.
func wanted(format string, args ...any) *Problem {
	return &Problem{What: fmt.Sprintf(format, args...)}
}

// hinting sets the hint, and returns p.
func (p *Problem) hinting(format string, args ...any) *Problem {
	p.Hint = fmt.Sprintf(format, args...)
	return p
}

// FlagProblem converts an error of the flag parser to a Problem. help is the command that lists
// the options, for the hint.
func FlagProblem(err error, help string) *Problem {
	var (
		problem  *Problem
		invalid  *pflag.InvalidValueError
		missing  *pflag.ValueRequiredError
		unknown  *pflag.NotExistError
		malshape *pflag.InvalidSyntaxError
	)
	see := help + " lists the options"
	switch {
	case errors.As(err, &invalid):
		p := &Problem{Flag: typed(invalid.GetFlag()), Value: invalid.GetValue(),
			What: "wanted " + plain(invalid.GetFlag())}
		if errors.As(err, &problem) {
			p.What, p.Hint = problem.What, problem.Hint
			if problem.Value == asIs {
				p.Value = ""
			}
		}
		return p
	case errors.As(err, &missing):
		f := missing.GetFlag()
		if why, ok := f.Annotations[refusedKey]; ok {
			return &Problem{Flag: typed(f), What: why[0]}
		}
		return &Problem{Flag: typed(f), What: "needs a value: wanted " + plain(f), Hint: see}
	case errors.As(err, &unknown):
		name := "--" + unknown.GetSpecifiedName()
		if group := unknown.GetSpecifiedShortnames(); group != "" {
			name = "-" + unknown.GetSpecifiedName()
			if group != unknown.GetSpecifiedName() {
				name += fmt.Sprintf(" (in %q)", "-"+group)
			}
		}
		return &Problem{What: "unknown option " + name, Hint: see}
	case errors.As(err, &malshape):
		return &Problem{What: fmt.Sprintf("bad option %q: wanted -x VALUE or --name VALUE",
			malshape.GetSpecifiedFlag()), Hint: see}
	case errors.As(err, &problem):
		return problem
	}
	return &Problem{What: err.Error()}
}

// asIs is the Value of a problem whose What quotes the value.
const asIs = "\x00"

// quoting returns the problem of another package's error, which quotes the value.
func quoting(err error) *Problem {
	_, what, _ := strings.Cut(err.Error(), ": ") // without the package or the operation
	return &Problem{Value: asIs, What: what}
}

// quoted is quoting for an error that may be nil.
func quoted(err error) error {
	if err == nil {
		return nil
	}
	return quoting(err)
}

// typed returns the flag as people type it: by its letter if it has one.
func typed(f *pflag.Flag) string {
	if f.Shorthand != "" {
		return "-" + f.Shorthand
	}
	return "--" + f.Name
}

// plain describes the kind of value that a flag takes.
func plain(f *pflag.Flag) string {
	switch t := f.Value.Type(); t {
	case "bool":
		return "true or false"
	case "":
		return "a value"
	default:
		return t
	}
}
