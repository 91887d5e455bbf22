package doctor

import "strings"

// CommandLine returns a command of this program as one types it, with the words quoted that
// need it.
func CommandLine(words ...string) string {
	quoted := []string{"tcpcopy"}
	for _, w := range words {
		quoted = append(quoted, quote(w))
	}
	return strings.Join(quoted, " ")
}

// quote returns a word as a shell wants it.
func quote(w string) string {
	const special = " \t'\"$&|;<>()*?[]#~`\\"
	if w != "" && !strings.ContainsAny(w, special) {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}

// withReplaced returns the words of a command line with a text in them replaced by another.
func withReplaced(args []string, old, with string) (out []string) {
	for _, a := range args {
		out = append(out, strings.ReplaceAll(a, old, with))
	}
	return out
}

// withOption returns the words of a command line with an option set to a value, or without the
// option if the value is empty. The option has a letter, or none, and a name, and takes a value.
func withOption(args []string, letter, name, value string) []string {
	var out []string
	placed := value == ""
	put := func(words ...string) {
		if !placed {
			out = append(out, words...)
			placed = true
		}
	}
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "--"+name, letter != "" && a == "-"+letter:
			put(a, value)
			i++ // its value
		case strings.HasPrefix(a, "--"+name+"="):
			put("--"+name, value)
		case letter != "" && strings.HasPrefix(a, "-"+letter) && !strings.HasPrefix(a, "--"):
			put("-"+letter, value)
		default:
			out = append(out, a)
		}
	}
	if letter != "" {
		put("-"+letter, value)
	} else {
		put("--"+name, value)
	}
	return out
}
