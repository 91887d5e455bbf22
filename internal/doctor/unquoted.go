package doctor

import "strings"

var unquotedCheck = Check{
	Code: "TC0109", Area: Capture, Quick: true,
	Title: "the expression of -F is not quoted",
	Roles: []Role{Copier, Assistant},
	How:   "Words follow -F that are no options.",
	Why: "The shell hands over each word by itself: of -F tcp and src port 8080 only tcp is " +
		"the filter.",
	Mend: "Put the expression in single quotes.",
	Judge: func(f *Facts) []Result {
		at := -1
		for i, a := range f.Args {
			if a == "-F" || a == "--filter" {
				at = i + 1
			}
		}
		if len(f.Extra) == 0 || at < 0 || at >= len(f.Args) {
			return nil
		}
		end := at + 1
		for end < len(f.Args) && !strings.HasPrefix(f.Args[end], "-") {
			end++
		}
		if end == at+1 {
			return nil
		}
		words := append([]string{}, f.Args[:at]...)
		words = append(words, strings.Join(f.Args[at:end], " "))
		words = append(words, f.Args[end:]...)
		return []Result{found("", "the filter is %q, and %q is left over", f.Args[at],
			strings.Join(f.Args[at+1:end], " ")).fix(CommandLine(words...))}
	},
}
