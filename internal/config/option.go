package config

import (
	"cmp"
	"strconv"

	"github.com/spf13/pflag"
)

// Group is a section of the options in the help of a command.
type Group string

// The groups, in the order in which help shows them.
const (
	Where   Group = "Where"    // what is copied, and to which targets
	When    Group = "When"     // when recorded traffic is replayed
	Load    Group = "Load"     // the lab's traffic
	How     Group = "How"      // how copies are made
	Content Group = "Requests" // which requests are sent, and how they are changed
	// what is compared, and what is left out of it
	Compares Group = "Comparison"
	Bounds   Group = "Bounds"                  // what this host and the target spend at most
	Output   Group = "Output"                  // what the command prints
	Letters  Group = "TCPCopy's other letters" // for old command lines
)

// Groups returns the groups in the order of help.
func Groups() []Group {
	return []Group{Where, When, Load, How, Content, Compares, Bounds, Output, Letters}
}

const (
	groupKey   = "group"
	refusedKey = "refused"
	choicesKey = "choices"
)

// GroupOf returns the group of a flag; empty if the flag does not belong to this package.
func GroupOf(f *pflag.Flag) Group {
	if g := f.Annotations[groupKey]; len(g) == 1 {
		return Group(g[0])
	}
	return ""
}

// SetGroup puts a flag of another package, such as --help, in the group g.
func SetGroup(f *pflag.Flag, g Group) {
	if f.Annotations == nil {
		f.Annotations = map[string][]string{}
	}
	f.Annotations[groupKey] = []string{string(g)}
}

// Refused returns why a flag is not honoured; empty if it is.
func Refused(f *pflag.Flag) string {
	if r := f.Annotations[refusedKey]; len(r) == 1 {
		return r[0]
	}
	return ""
}

// Choices returns the words that a flag takes; nil if it takes other values.
func Choices(f *pflag.Flag) []string { return f.Annotations[choicesKey] }

// option declares one flag: its name, its help, and the function that parses its value.
type option struct {
	name, letter string
	formerly     string // an older name, which is accepted
	arg          string // the value's name in help; empty for a switch
	group        Group
	help         string
	def          string             // the default in help; set is not called for it
	set          func(string) error // returns a *Problem without a flag if the value is wrong
	clear        func()             // forgets the values; nil if the option takes one value
	choices      []string           // the words that it takes; nil: other values
	refused      string             // why the option is not honoured: then set is nil
}

// value is the pflag.Value of an option.
type value struct {
	o    *option
	text string
	all  []string // all values that were given, in order
}

// String returns the last value that was given.
func (v *value) String() string { return v.text }

// Type returns the value's name in help; for a switch it is "bool", which the flag parser
// requires.
func (v *value) Type() string {
	if v.o.arg == "" {
		return "bool"
	}
	return v.o.arg
}

// IsBoolFlag reports whether the option is a switch.
func (v *value) IsBoolFlag() bool { return v.o.arg == "" }

// Set parses and keeps a value.
func (v *value) Set(s string) error {
	if v.o.refused != "" {
		return &Problem{Value: asIs, What: v.o.refused}
	}
	if err := v.o.set(s); err != nil {
		return err
	}
	v.text = s
	v.all = append(v.all, s)
	return nil
}

// register adds the options to fs, which accepts their older names, too.
func register(fs *pflag.FlagSet, options []option) {
	renamed := make(map[string]string)
	for i := range options {
		if o := &options[i]; o.formerly != "" {
			renamed[o.formerly] = o.name
		}
	}
	if len(renamed) > 0 {
		fs.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
			return pflag.NormalizedName(cmp.Or(renamed[name], name))
		})
	}
	for i := range options {
		o := &options[i]
		f := fs.VarPF(&value{o: o, text: o.def}, o.name, o.letter, o.help)
		if o.arg == "" {
			f.NoOptDefVal = "true"
		}
		f.Annotations = map[string][]string{groupKey: {string(o.group)}}
		if o.refused != "" {
			f.Annotations[refusedKey] = []string{o.refused}
		}
		if len(o.choices) > 0 {
			f.Annotations[choicesKey] = o.choices
		}
	}
}

// on parses a switch.
func on(dst *bool) func(string) error {
	return func(s string) error {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return wanted("wanted no value, or true or false")
		}
		*dst = b
		return nil
	}
}
