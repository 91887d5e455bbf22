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
	Where   Group = "Where"                   // what is copied, and to whom
	When    Group = "When"                    // what is recorded is played
	Load    Group = "Load"                    // the lab's traffic
	How     Group = "How"                     // what the copies are like
	Content Group = "Requests"                // which requests the target gets, and how they are changed
	Bounds  Group = "Bounds"                  // what production pays at most
	Output  Group = "Output"                  // what the command tells
	Letters Group = "TCPCopy's other letters" // for old command lines only
)

// Groups lists the groups in order.
func Groups() []Group { return []Group{Where, When, Load, How, Content, Bounds, Output, Letters} }

const (
	groupKey   = "group"
	refusedKey = "refused"
	choicesKey = "choices"
)

// GroupOf is the group that a flag of this package is shown in; empty for others.
func GroupOf(f *pflag.Flag) Group {
	if g := f.Annotations[groupKey]; len(g) == 1 {
		return Group(g[0])
	}
	return ""
}

// SetGroup shows a flag of another package, such as --help, in the group g.
func SetGroup(f *pflag.Flag, g Group) {
	if f.Annotations == nil {
		f.Annotations = map[string][]string{}
	}
	f.Annotations[groupKey] = []string{string(g)}
}

// Refused is why a flag cannot be honoured; empty if it is.
func Refused(f *pflag.Flag) string {
	if r := f.Annotations[refusedKey]; len(r) == 1 {
		return r[0]
	}
	return ""
}

// Choices lists the words that a flag takes; nil where it takes others.
func Choices(f *pflag.Flag) []string { return f.Annotations[choicesKey] }

// option declares one flag: what people type, what help says, and what reads the value.
type option struct {
	name, letter string
	formerly     string // the name that it had before, which is accepted
	arg          string // what help calls the value; empty for a switch
	group        Group
	help         string
	def          string             // shown in help; set is not called for it
	set          func(string) error // a *Problem without a flag, if the value cannot be
	clear        func()             // where several values add up: forgets them
	choices      []string
	refused      string // why this version cannot do it: then set is not needed
}

// value is a pflag.Value over an option.
type value struct {
	o    *option
	text string
	all  []string // every value given, in order
}

func (v *value) String() string { return v.text }

// Type is what the value is called in help, and "bool" for a switch, as the flag parser wants it.
func (v *value) Type() string {
	if v.o.arg == "" {
		return "bool"
	}
	return v.o.arg
}

// IsBoolFlag tells a switch from others.
func (v *value) IsBoolFlag() bool { return v.o.arg == "" }

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

// register adds the options to fs, which accepts their former names, too.
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

// on reads a switch.
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
