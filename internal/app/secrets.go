package app

import (
	"strings"

	"tcpcopy/internal/proto/known"
)

// withoutProtocolOptions returns a command's arguments without the options of the protocols: they
// may hold passwords, and change nothing about how a copy reaches its target.
func withoutProtocolOptions(args []string) []string {
	value := map[string]bool{} // by flag: whether a value follows
	for _, p := range known.All() {
		if p.NewSettings == nil {
			continue
		}
		for _, o := range p.NewSettings().Options() {
			value["--"+o.Name] = o.Arg != ""
			if o.Letter != "" {
				value["-"+o.Letter] = o.Arg != ""
			}
		}
	}
	var rest []string
	for i := 0; i < len(args); i++ {
		name, _, joined := strings.Cut(args[i], "=")
		follows, found := value[name]
		switch {
		case !found:
			rest = append(rest, args[i])
		case follows && !joined:
			i++
		}
	}
	return rest
}
