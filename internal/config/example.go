package config

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Example returns a configuration file with every key. Options are comments, with their help and
// default.
func Example() string {
	var b strings.Builder
	b.WriteString(`# tcpcopy copy --config FILE reads this file. Options on the command line take
# precedence. SIGHUP reads it again: mappings, and the options that single mappings may have,
# change at once, the others at the next start.

mappings:
  - 80-10.0.0.2:8080
  # An entry may have options of its own.
  - map: 443-10.0.0.2:8443|10.0.0.3:8443*2
    balance: least

`)
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	NewCopyOptions(fs, Host{})
	own := mappedFlags()
	b.WriteString("# A single mapping may have these options, too.\n\n")
	own.SortFlags, fs.SortFlags = false, false
	own.VisitAll(func(f *pflag.Flag) { exampleKey(&b, f) })
	b.WriteString("\n# These options hold for all mappings.\n\n")
	fs.VisitAll(func(f *pflag.Flag) {
		if own.Lookup(f.Name) == nil && f.Name != "map" && f.Name != "config" && Refused(f) == "" {
			exampleKey(&b, f)
		}
	})
	return b.String()
}

func exampleKey(b *strings.Builder, f *pflag.Flag) {
	v := f.Value.String()
	switch {
	case v == "" && f.Value.Type() == "bool":
		v = "false"
	case v == "":
		v = f.Value.Type()
	}
	fmt.Fprintf(b, "# %s\n#%s: %s\n", f.Usage, f.Name, v)
}
