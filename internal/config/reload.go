package config

import (
	"slices"

	"github.com/spf13/pflag"
)

// Reload reads the configuration file again, applies the same command line, and returns the new
// settings. The warnings name the options that were changed and take effect only when the copier
// starts again.
func (o *CopyOptions) Reload() (*Copy, []string, error) {
	fs := pflag.NewFlagSet(o.fs.Name(), pflag.ContinueOnError)
	next := NewCopyOptions(fs, o.host)
	var err error
	for _, s := range o.typed {
		for _, text := range s.texts {
			if e := fs.Set(s.key, text); e != nil && err == nil {
				err = FlagProblem(e, "tcpcopy copy --help")
			}
		}
	}
	if err != nil {
		return nil, nil, err
	}
	c, warnings, err := next.Copy()
	if err != nil {
		return nil, nil, err
	}
	mapped := mappedFlags()
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Name == "map" || mapped.Lookup(f.Name) != nil {
			return
		}
		if !slices.Equal(f.Value.(*value).all, o.fs.Lookup(f.Name).Value.(*value).all) {
			warnings = append(warnings, f.Name+": was changed, which takes effect when the "+
				"copier starts again")
		}
	})
	return c, warnings, nil
}
