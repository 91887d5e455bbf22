package doctor

import (
	"strings"
	"testing"
)

func TestWithOption(t *testing.T) {
	for _, c := range []struct{ args, value, want string }{
		{"copy -x 80-a:80 -i lo", "eth0", "copy -x 80-a:80 -i eth0"},
		{"copy -x 80-a:80 -ilo -n 2", "eth0", "copy -x 80-a:80 -i eth0 -n 2"},
		{"copy --interface lo", "eth0", "copy --interface eth0"},
		{"copy --interface=lo", "eth0", "copy --interface eth0"},
		{"copy -i lo -i lo", "eth0", "copy -i eth0"},
		{"copy -n 2", "eth0", "copy -n 2 -i eth0"},
		{"copy -i lo -n 2", "", "copy -n 2"},
		{"copy -n 2", "", "copy -n 2"},
	} {
		got := strings.Join(withOption(strings.Fields(c.args), "i", "interface", c.value), " ")
		if got != c.want {
			t.Errorf("%s with %q: %s, want %s", c.args, c.value, got, c.want)
		}
	}
}

func TestCommandLine(t *testing.T) {
	got := CommandLine("copy", "-F", "tcp and port 80", "it's", "")
	if want := `tcpcopy copy -F 'tcp and port 80' 'it'\''s' ''`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
