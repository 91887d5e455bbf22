package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"tcpcopy/internal/core/balance"
)

// inFile parses a command line with a configuration file.
func inFile(t *testing.T, text string, args ...string) (*Copy, []string, error) {
	t.Helper()
	noKeyInEnvironment(t)
	t.Chdir(t.TempDir())
	if err := os.WriteFile("c.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return parse(t, append([]string{"--config", "c.yaml"}, args...)...)
}

func TestFile(t *testing.T) {
	for _, tt := range []struct {
		name, text, args string
		same             string // the command line that means the same
	}{
		{"mappings", "mappings:\n  - 80-10.0.0.2:8080\n  - 81-10.0.0.2:8081|10.0.0.3:8081*2\n", "",
			"-x 80-10.0.0.2:8080,81-10.0.0.2:8081|10.0.0.3:8081*2"},
		{"a mapping with nothing of its own", "mappings:\n- map: 80-10.0.0.2:8080\n", "",
			"-x 80-10.0.0.2:8080"},
		{"options of every kind", `
mappings: ["80-10.0.0.2:8080"]
balance: least
copies: 2.5
stats: 500ms
memory: 64
session-timeout: 60   # seconds
whole-sessions: true
filter: |
  src net 10.0.0.0/8
interface: [eth0, lo]
only:
  - 10.0.0.0/8
  - fd00::1
`, "", "-x 80-10.0.0.2:8080 --balance least -n 2.5 --stats 500ms -m 64 -t 60 -O -F " +
			"src_net_10.0.0.0/8 -i eth0,lo --only 10.0.0.0/8,fd00::1"},
		{"values with commas that add up",
			"mappings: [80-10.0.0.2:8080]\nhttp-deny: ['POST /a,b', 'PUT /c']\n", "",
			"-x 80-10.0.0.2:8080 --http-deny POST_/a,b --http-deny PUT_/c"},
		{"flags overrule", "mappings: [80-10.0.0.2:8080]\ncopies: 2\nbalance: all\n", "-n 3",
			"-x 80-10.0.0.2:8080 -n 3 --balance all"},
		{"-x overrules all mappings", "mappings: [80-10.0.0.2:8080]\ncopies: 2\n",
			"-x 90-10.0.0.9:90", "-x 90-10.0.0.9:90 -n 2"},
		{"lists are overruled, not added to",
			"mappings: [80-10.0.0.2:8080]\ninterface: eth0\nonly: 10.0.0.0/8\n",
			"-i eth1 --only 192.0.2.1", "-x 80-10.0.0.2:8080 -i eth1 --only 192.0.2.1"},
		{"nothing but comments", "# nothing\n", "-x 80-10.0.0.2:8080", "-x 80-10.0.0.2:8080"},
		{"empty", "", "-x 80-10.0.0.2:8080", "-x 80-10.0.0.2:8080"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _, err := inFile(t, tt.text, strings.Fields(tt.args)...)
			if err != nil {
				t.Fatal(err)
			}
			var args []string
			for _, a := range strings.Fields(tt.same) {
				args = append(args, strings.ReplaceAll(a, "_", " "))
			}
			want, _, err := parse(t, args...)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got, same); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func TestFileMappingsOfTheirOwn(t *testing.T) {
	c, _, err := inFile(t, `
copies: 2
wait: quiet
only: 10.0.0.0/8
mappings:
  - 80-10.0.0.2:8080
  - map: 81-10.0.0.2:8081|10.0.0.3:8081
    balance: all
    wait: none
    only: [192.0.2.0/24]
  - map: 82-10.0.0.2:8082
    copies: 7
    sample: 5
`, "--sample", "50")
	if err != nil {
		t.Fatal(err)
	}
	first, second, third := c.Of(0), c.Of(1), c.Of(2)
	if first.Copies != 2 || first.Wait != WaitQuiet || first.SamplePercent != 50 ||
		first.Balance != balance.Client {
		t.Errorf("the first: %+v", first)
	}
	if second.Copies != 2 || second.Wait != WaitNone || second.Balance != balance.All ||
		len(second.Only) != 1 || second.Only[0] != networks("192.0.2.0/24")[0] {
		t.Errorf("the second: %+v", second)
	}
	if third.Copies != 7 || third.SamplePercent != 50 { // the command line overrules
		t.Errorf("the third: %+v", third)
	}
}

func TestFileRefusals(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown key", "mappings: [80-10.0.0.2:80]\nstat: 10s\n",
			`c.yaml:2:1: unknown key "stat": wanted an option`},
		{"unknown key of a mapping", "mappings:\n  - map: 80-10.0.0.2:80\n    ballance: all\n",
			`c.yaml:3:5: unknown key "ballance": wanted an option of a mapping`},
		{"a key of all in a mapping", "mappings:\n  - map: 80-10.0.0.2:80\n    stats: 1s\n",
			`c.yaml:3:5: stats holds for all mappings: wanted it outside the list`},
		{"a key of our command line only", "config: other.yaml\n",
			`c.yaml:1:1: unknown key "config"`},
		{"help", "help: true\n", `c.yaml:1:1: unknown key "help"`},
		{"a refused letter", "user-pool: 3\n", `c.yaml:1:1: unknown key "user-pool"`},
		{"one value of a list", "compare: true\nignore:\n  - body.x\n  - nothing here\n",
			`c.yaml:4:5: ignore: rule "nothing here"`},
		{"twice", "stats: 1s\nstats: 2s\n", `c.yaml:2:1`},
		{"several values for one", "balance: [client, all]\n",
			`c.yaml:1:1: balance "client,all": wanted client`},
		{"a value that cannot be", "mappings: [80-10.0.0.2:80]\nbalance: fair\n",
			`c.yaml:2:1: balance "fair": wanted client, session, round-robin, least or all`},
		{"of a mapping", "mappings:\n  - map: 80-10.0.0.2:80\n    copies: 0\n",
			`c.yaml:3:5: copies "0": wanted a number from 1 to 1023`},
		{"too many copies", "mappings: [80-10.0.0.2:80]\ncopies: 10000\n",
			`c.yaml:2:1: copies "10000": wanted a number from 1 to 1023, such as 3 or 2.5`},
		{"more copies than ports", "mappings: [80-10.0.0.2:80]\ncopies: 41\n",
			`c.yaml:2:1: copies "41": wants more copies of one session than there can be ` +
				`connections`},
		{"overruled, and wrong", "mappings: [80-10.0.0.2:80]\nwait: long\n",
			`c.yaml:2:1: wait "long"`},
		{"what does not go together", "mappings: [80-10.0.0.2:80]\nmtu: 1400\n",
			`c.yaml:2:1: mtu: needs -s IP[:PORT]`},
		{"no value", "stats:\n", `c.yaml:1:8: wanted a plain value, or a list of them`},
		{"a mapping for a value", "stats: {a: b}\n", `c.yaml:1:8: wanted a plain value`},
		{"lists in lists", "only: [[10.0.0.1]]\n", `wanted a plain value`},
		{"an anchor", "stats: &a 1s\n", `wanted a plain value`},
		{"an alias", "wait: &a auto\nbalance: *a\n", `wanted a plain value`},
		{"mappings that are none", "mappings: 80-10.0.0.2:80\n",
			`c.yaml:1:11: mappings: wanted a list, such as "- 80-10.0.0.2:8080"`},
		{"a bad mapping", "mappings:\n  - 80-8080\n",
			`c.yaml:2:5: map: target "8080" in "80-8080" has no address`},
		{"several in one", "mappings:\n  - 80-10.0.0.2:80,81-10.0.0.2:81\n",
			`wanted each as an entry of its own`},
		{"without map", "mappings:\n  - balance: all\n", `has no map`},
		{"the same production side", "mappings:\n  - 80-10.0.0.2:80\n  - 80-10.0.0.3:80\n",
			`c.yaml: mappings: "80-10.0.0.2:80" and "80-10.0.0.3:80" are for the same traffic`},
		{"map outside", "map: 80-10.0.0.2:80\n", `c.yaml:1:1: map: wanted mappings, a list`},
		{"a list at the top", "- 80-10.0.0.2:80\n",
			`c.yaml:1:1: wanted options, such as "stats: 10s"`},
		{"two documents", "stats: 1s\n---\nstats: 2s\n", `a second document`},
		{"no YAML", "mappings: [80\n", `c.yaml:`},
		{"a tab", "mappings:\n\t- 80-10.0.0.2:80\n", `c.yaml:`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := []string(nil)
			if tt.name == "overruled, and wrong" {
				args = []string{"--wait", "auto"}
			}
			_, _, err := inFile(t, tt.text, args...)
			if err == nil || !strings.HasPrefix(err.Error(), "c.yaml:") ||
				!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
	if _, _, err := parse(t, "--config", "gone.yaml"); err == nil ||
		!strings.Contains(err.Error(), `--config "gone.yaml": cannot be read: no such file`) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// Every option has its key, and the defaults in the comments of the example are accepted.
func TestExample(t *testing.T) {
	text := Example()
	if _, _, err := inFile(t, text); err != nil {
		t.Fatalf("the example is refused: %v", err)
	}
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	NewCopyOptions(fs, host)
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Name == "map" || f.Name == "config" || Refused(f) != "" {
			return
		}
		if strings.Count(text, "\n#"+f.Name+": ") != 1 {
			t.Errorf("%s is not in the example once", f.Name)
		}
		if def := f.Value.String(); def != "" && f.Name != "port" { // which needs an intercept
			only := "mappings: [80-10.0.0.2:8080]\n" + f.Name + ": " + def + "\n"
			if _, _, err := inFile(t, only); err != nil &&
				!strings.Contains(err.Error(), "needs -s") {
				t.Errorf("the default of %s: %v", f.Name, err)
			}
		}
	})
}

func TestAgain(t *testing.T) {
	noKeyInEnvironment(t)
	path := filepath.Join(t.TempDir(), "c.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("mappings: [80-10.0.0.2:8080]\ncopies: 2\nstats: 5s\n")
	fs := pflag.NewFlagSet("copy", pflag.ContinueOnError)
	o := NewCopyOptions(fs, host)
	if err := fs.Parse([]string{"--config", path, "-i", "eth0", "-i", "lo", "--gate-limit",
		"3s"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.Copy(); err != nil {
		t.Fatal(err)
	}
	write("mappings: [81-10.0.0.2:8081]\ncopies: 3\nstats: 6s\n")
	c, warnings, err := o.Reload()
	if err != nil {
		t.Fatal(err)
	}
	if c.Mappings[0].String() != "81-10.0.0.2:8081" || c.Copies != 3 || len(c.Interfaces) != 2 ||
		c.GateLimit != 3*time.Second {
		t.Errorf("%+v", c)
	}
	if len(warnings) != 1 ||
		warnings[0] != "stats: was changed, which takes effect when the copier starts again" {
		t.Errorf("warnings: %q", warnings)
	}
	write("mappings: [80]\n")
	if _, _, err := o.Reload(); err == nil {
		t.Error("a bad file is taken")
	}
	write("mappings: [82-10.0.0.2:8082]\n") // and mended
	if c, _, err := o.Reload(); err != nil || c.Mappings[0].String() != "82-10.0.0.2:8082" ||
		c.Copies != 1 {
		t.Errorf("%+v, %v", c, err)
	}
}

func FuzzFile(f *testing.F) {
	f.Add([]byte("mappings:\n  - 80-10.0.0.2:8080\n  - map: 81-10.0.0.2:81|10.0.0.3:81*3\n    " +
		"balance: all\nstats: 1s\n"))
	f.Add([]byte(Example()))
	f.Add([]byte("a: &x [*x, {b: !!int 3}]\n---\n? [c]\n: |\n  d\n"))
	yes := func(string) bool { return true }
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 4096 {
			return
		}
		if file, err := parseFile("c.yaml", text, yes, yes); err == nil {
			for _, s := range file.settings {
				if s.at == "" {
					t.Error("a setting from nowhere")
				}
			}
		}
	})
}
