package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// Nothing is shown beyond loopback without a token and TLS, and the refusal says what is wanted.
func TestWebAddresses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	token, short, junk := file(
		"token",
		"0123456789abcdef0123",
	), file(
		"short",
		"abc",
	), file(
		"junk",
		"no certificate",
	)
	for _, tt := range []struct {
		args []string
		want string // of the refusal; empty: it is taken
	}{
		{[]string{"--metrics", "127.0.0.1:9436"}, ""},
		{[]string{"--metrics", "[::1]:9436"}, ""},
		{[]string{"--metrics", "0.0.0.0:9436"}, "--web-token FILE and --web-tls FILE"},
		{[]string{"--metrics", "10.0.0.1:9436"}, "is beyond loopback"},
		{[]string{"--metrics", "localhost:9436"}, "wanted IP:PORT"},
		{[]string{"--metrics", "/run/x.sock"}, "wanted IP:PORT"},
		{[]string{"--web-token", token}, "--web-tls FILE, too"},
		{[]string{"--web-tls", junk}, "--web-token FILE, too"},
		{[]string{"--web-token", short, "--web-tls", junk}, "at least 16"},
		{[]string{"--web-token", dir + "/none", "--web-tls", junk}, "no such file"},
		{[]string{"--web-token", token, "--web-tls", junk}, "--web-tls"},
	} {
		fs := pflag.NewFlagSet("record", pflag.ContinueOnError)
		o := NewRecordOptions(fs, host)
		err := fs.Parse(append([]string{"-x", "80", "-o", "file.pcapng"}, tt.args...))
		if err == nil {
			_, err = o.Record()
		} else {
			err = FlagProblem(err, "")
		}
		var p *Problem
		if (err == nil) != (tt.want == "") ||
			err != nil && (!errors.As(err, &p) || !strings.Contains(p.Error(), tt.want)) {
			t.Errorf("%v: %v", tt.args, err)
		}
	}
}
