package app

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is this program's semantic version. Releases set it with -ldflags -X.
var version = "0.1.0"

// Version returns the program's version, with the revision that it was built from if that is known.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "+"
			}
		}
	}
	if len(revision) < 12 {
		return version
	}
	return version + "-" + revision[:12] + dirty
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version and the Go version it was built with",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(p.out, "tcpcopy %s (%s, %s/%s)\n",
				Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
