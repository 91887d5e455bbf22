package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Problem is bad input: what was given, what was wanted, and, where it helps, what to do about it.
type Problem struct {
	Flag  string // as people type it: "-x", "--report"; empty where no flag is to blame
	Value string // what was given to it; empty where that is not the point, or What quotes it
	What  string // what is wrong with it, or what was wanted
	Hint  string // what to do; may be empty
}

// Error is the problem in one line, without the hint.
func (p *Problem) Error() string {
	switch {
	case p.Flag == "":
		return p.What
	case p.Value == "":
		return p.Flag + ": " + p.What
	}
	return fmt.Sprintf("%s %q: %s", p.Flag, p.Value, p.What)
}

// wanted is a problem with a value whose flag is not known yet; FlagProblem fills it in.
func wanted(format string, args ...any) *Problem {
	return &Problem{What: fmt.Sprintf(format, args...)}
}

// hinting adds a hint.
func (p *Problem) hinting(format string, args ...any) *Problem {
	p.Hint = fmt.Sprintf(format, args...)
	return p
}

// FlagProblem turns an error of the flag parser into a Problem in this program's own words. help is the
// command that explains the options, for the hint.
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
		p := &Problem{Flag: typed(invalid.GetFlag()), Value: invalid.GetValue(), What: "wanted " + plain(invalid.GetFlag())}
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
		return &Problem{What: fmt.Sprintf("bad option %q: wanted -x VALUE or --name VALUE", malshape.GetSpecifiedFlag()), Hint: see}
	case errors.As(err, &problem):
		return problem
	}
	return &Problem{What: err.Error()}
}

// asIs marks a problem whose What quotes the value already.
const asIs = "\x00"

// quoting takes the words of another package's error, which quotes the value itself.
func quoting(err error) *Problem {
	_, what, _ := strings.Cut(err.Error(), ": ") // the operation goes without saying
	return &Problem{Value: asIs, What: what}
}

// quoted is quoting where there may be no error.
func quoted(err error) error {
	if err == nil {
		return nil
	}
	return quoting(err)
}

// typed is how people write the flag: by its letter where it has one.
func typed(f *pflag.Flag) string {
	if f.Shorthand != "" {
		return "-" + f.Shorthand
	}
	return "--" + f.Name
}

// plain says in words what kind of value a flag takes.
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
